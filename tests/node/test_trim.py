"""`rbd-csi node trim`: what a volume's file system does not use comes back to Ceph; a device that hangs holds up nobody."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.node.bench import BLOCK, KINDS, MIB, Bench, capability
from tests.node.test_hung_devices import paused
from tests.stopping import stopped
from tests.volume_command import Ended

FILE_BYTES = 64 * MIB
KEPT = b"kept" * 1000
WAIT_S = 120.0
HANGS_S = 40.0
"""Seconds of the look at the device, of killing the program, and of a Python that starts in a virtual machine."""


def trim(path: Path, *options: str) -> Ended:
    command = [sys.executable, "-m", "csi_driver", "node", "trim", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def used_bytes(bench: Bench, volume_id: str) -> int:
    extents = json.loads(bench.ceph.rbd("diff", "--format", "json", bench.image(volume_id)))
    return sum(int(one["length"]) for one in extents if one["exists"] == "true")


def write_and_remove(place: Path) -> None:
    """The file system has no use for the blocks any more, and its journal knows."""
    big = place / "big"
    with big.open("wb") as opened:
        opened.write(os.urandom(FILE_BYTES))
        os.fsync(opened.fileno())
    big.unlink()
    os.sync()


def shown_to_give_back(bench: Bench, volume_id: str, path: Path) -> None:
    (path / "kept").write_bytes(KEPT)
    write_and_remove(path)
    before = used_bytes(bench, volume_id)
    ended = trim(path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{volume_id}: ")
    assert used_bytes(bench, volume_id) <= before - FILE_BYTES * 9 // 10  # krbd discards whole 64 KiB
    assert (path / "kept").read_bytes() == KEPT


@pytest.mark.parametrize("fs_type", ["ext4", "xfs"])
def test_what_a_file_system_does_not_use_comes_back(bench: Bench, fs_type: str) -> None:
    """By the path of a pod, and by that of the stage."""
    volume_id = bench.new_volume()
    bench.stage(volume_id, KINDS[fs_type])
    shown_to_give_back(bench, volume_id, bench.publish(volume_id, KINDS[fs_type]))
    shown_to_give_back(bench, volume_id, bench.staging(volume_id) / volume_id)


@pytest.mark.attacher("krbd", "nbd")
def test_what_an_encrypted_volume_does_not_use_comes_back(bench: Bench) -> None:
    volume_id = bench.new_volume()
    request = bench.stage_request(volume_id, encrypted="true")
    request.secrets["encryptionPassphrase"] = "correct horse"
    bench.until_ok(bench.node.NodeStageVolume, request)  # cryptsetup's key derivation takes its time without KVM
    shown_to_give_back(bench, volume_id, bench.publish(volume_id))


@contextmanager
def hanging(bench: Bench) -> Iterator[None]:
    if bench.setting.attacher_name != "fuse":
        with paused(bench.ceph):
            yield
        return
    (daemon,) = bench.daemons()
    with stopped(daemon):
        yield


def test_a_device_that_hangs_is_told_in_time_and_is_trimmed_later(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    path = bench.publish(volume_id)
    with hanging(bench):
        began = time.monotonic()
        ended = trim(path)
        assert time.monotonic() - began < HANGS_S
        assert (ended.code, ended.out) == (1, "")
        assert "the device hangs" in ended.err
    deadline = time.monotonic() + WAIT_S
    while (again := trim(path)).code:  # Ceph takes a moment to serve again
        assert "the device hangs" in again.err
        assert time.monotonic() < deadline, again


def test_what_is_no_file_system_of_a_volume_is_refused_in_one_line(bench: Bench) -> None:
    block, reader = bench.new_volume(), bench.new_volume()
    bench.stage(block, BLOCK)
    bench.stage(reader, capability(flags=["ro"]))
    unpublished = bench.target("unpublished")
    for path, code, said in (
        (Path("/"), 1, "no volume of this node is mounted at /"),
        (unpublished, 1, f"no volume of this node is mounted at {unpublished}"),
        (bench.publish(block, BLOCK, name="block"), 2, f"volume {block} is a block device"),
        (bench.staging(reader) / reader, 2, f"volume {reader} is mounted read-only"),
    ):
        ended = trim(path)
        assert (ended.code, ended.out) == (code, ""), ended
        assert ended.err.startswith(f"rbd-csi: {said}")
        assert ended.err.count("\n") == 1
