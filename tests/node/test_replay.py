"""A copy of a file system that was being written is mounted for reading by two nodes: its journal is replayed once."""

import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from csi_driver.dev.inventory import Place, leftovers
from csi_driver.dev.layout import DevCeph
from csi_driver.host.mounts import LocalMounts
from tests.client import refusal
from tests.controller.calls import Calls
from tests.fixtures.driver import StartDriver
from tests.node.bench import capability
from tests.node.node_process import REPEAT_S, Node

SIZE_BYTES = 320 << 20
SYNCED_BEFORE_THE_CUT = 30
READER = "MULTI_NODE_READER_ONLY"
TWO_NODES_ON_ONE_MACHINE = pytest.mark.attacher("fuse")
"""Mappings of the kernel are the machine's: two nodes on one would take each other's for their own."""


class Writer:
    """Writes and syncs one file after the other until it is told to end."""

    def __init__(self, directory: Path) -> None:
        self.synced: list[str] = []
        self.enough = threading.Event()
        self._directory = directory
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        number = 0
        while not self._ending.is_set():
            name = f"file-{number}"
            descriptor = os.open(self._directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                os.write(descriptor, content_of(name))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            directory = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
            self.synced.append(name)
            number += 1
            if number == SYNCED_BEFORE_THE_CUT:
                self.enough.set()

    def end(self) -> None:
        self._ending.set()
        self._thread.join()


def content_of(name: str) -> bytes:
    return f"{name}\n".encode() * 100


@pytest.fixture
def nodes(ceph_dev: DevCeph, start_driver: StartDriver, tmp_path: Path) -> Iterator[list[Node]]:
    """Two of one machine; nothing is mounted any more at the end."""
    made: list[Node] = []
    for number in (1, 2):
        directory = tmp_path / f"node-{number}"
        directory.mkdir()
        driver = start_driver(
            "--node",
            "--driver-name",
            f"replay-{number}.csi.test",
            clusters=ceph_dev.config_json,
            node_id=f"replay-{number}",
        )
        made.append(Node(driver, directory, dict(ceph_dev.secrets("node"))))
    yield made
    left = [mount.target for mount in LocalMounts().table() if mount.target.is_relative_to(tmp_path)]
    assert not left


@pytest.fixture
def calls(ceph_dev: DevCeph, start_driver: StartDriver) -> Iterator[Calls]:
    yield Calls(start_driver("--controller", clusters=ceph_dev.config_json).rpc, ceph_dev.secrets("provisioner"))
    assert leftovers(ceph_dev, Place("rbd")) == frozenset()


@TWO_NODES_ON_ONE_MACHINE
@pytest.mark.parametrize("fs_type", ["ext4", "xfs"])
def test_what_was_synced_before_the_cut_is_read_by_two_nodes_at_once(
    nodes: list[Node], calls: Calls, fs_type: str
) -> None:
    """While the source stays mounted, and written to, on one of them."""
    one = nodes[0]
    source = calls.create("source", SIZE_BYTES, capability=capability(fs_type=fs_type))
    writer = Writer(one.use(source, capability(fs_type=fs_type), name="source"))
    try:
        assert writer.enough.wait(REPEAT_S)
        synced = list(writer.synced)
        snapshot = calls.snapshot("snap", source.volume_id)
        reader = capability(READER, fs_type=fs_type)
        restored = calls.create("restored", 0, source=snapshot, capability=reader)
        with ThreadPoolExecutor(2) as threads:
            places = list(threads.map(lambda node: node.use(restored, reader, name="copy"), nodes))
        for place in places:
            for name in synced:
                assert (place / name).read_bytes() == content_of(name)
            with pytest.raises(OSError, match="Read-only file system"):
                (place / "new").touch()
        assert sum(node.replays for node in nodes) == 1
    finally:
        writer.end()
    for name in writer.synced:
        assert (one.directory / "pod-source" / name).read_bytes() == content_of(name)
    for node in nodes:
        node.leave()
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    for volume in (source, restored):
        calls.delete_until_done(volume.volume_id)


def sync(place: Path) -> None:
    """This file system alone: another one on the machine may hang."""
    subprocess.run(["sync", "--file-system", str(place)], check=True, timeout=60)


@TWO_NODES_ON_ONE_MACHINE
@pytest.mark.parametrize("fs_type", ["ext4", "xfs"])
def test_a_journal_is_not_replayed_under_a_client_that_writes(nodes: list[Node], calls: Calls, fs_type: str) -> None:
    """The volume is mounted elsewhere, so that its journal is dirty by right."""
    one, two = nodes
    volume = calls.create("source", SIZE_BYTES, capability=capability(fs_type=fs_type))
    place = one.use(volume, capability(fs_type=fs_type), name="source")
    (place / "there").write_bytes(b"data")
    sync(place)
    with pytest.raises(AssertionError, match=r"FAILED_PRECONDITION.*open at"):
        two.use(volume, capability(READER, fs_type=fs_type), name="reader")
    (place / "more").write_bytes(b"data")
    assert (place / "there").read_bytes() == b"data"
    assert (one.replays, two.replays) == (0, 0)
    two.used.clear()
    one.leave()
    calls.delete_until_done(volume.volume_id)


def test_a_node_that_dies_in_a_replay_leaves_it_to_its_successor(nodes: list[Node], calls: Calls) -> None:
    one, _ = nodes
    source = calls.create("source", SIZE_BYTES, capability=capability())
    place = one.use(source, capability(), name="source")
    (place / "there").write_bytes(b"data")
    sync(place)
    clone = calls.create("clone", 0, source=source, capability=capability(READER))
    one.driver.stop()
    one.driver.restart({"RBD_CSI_FAILPOINTS": "node.replay:after=kill"})
    staging = one.directory / "staging-clone"
    staging.mkdir()
    cut_short = refusal(one.driver.rpc.node.NodeStageVolume, one.stage_request(clone, capability(READER), staging))
    assert cut_short
    assert cut_short.code is grpc.StatusCode.UNAVAILABLE
    one.driver.await_death()
    one.driver.restart({})
    copy = one.use(clone, capability(READER), name="clone")
    assert (copy / "there").read_bytes() == b"data"
    one.leave()
    for volume in (clone, source):
        calls.delete_until_done(volume.volume_id)
