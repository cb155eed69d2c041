"""A node that keeps writing is fenced: its writes fail, and another node has the volume as it was synced before.

Two drivers on this machine are the two nodes, with a directory for their attached images each. The first one's writer syncs
numbered lines and tells each one that is on stable storage.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from csi_driver.cli.node_half import RUN_DIRECTORY
from csi_driver.dev.inventory import Place, inventory
from csi_driver.dev.layout import DevCeph
from csi_driver.host import commands
from csi_driver.host.mounts import LocalMounts
from csi_driver.pb import csi_pb2 as pb
from tests.client import refusal
from tests.controller.calls import Calls
from tests.driver import DriverProcess
from tests.node.bench import KINDS, SIZE_MIB
from tests.volume_command import Ended

# Mappings of the kernel are the machine's: two nodes on one would take each other's for their own.
pytestmark = pytest.mark.attacher("fuse")

WRITER = """
import os, sys
with open(sys.argv[1], "a", buffering=1) as opened:
    number = 0
    while True:
        number += 1
        opened.write(f"{number:08}\\n")
        opened.flush()
        os.fsync(opened.fileno())
        print(number, flush=True)
"""
WAIT_S = 120.0


@dataclass
class Node:
    """One node: its driver, and the volume's paths on it."""

    driver: DriverProcess
    name: str
    directory: Path
    secrets: dict[str, str]

    @property
    def target(self) -> Path:
        return self.directory / "pod" / "mount"

    def attach(self, volume_id: str, kind: str, publish_context: dict[str, str]) -> None:
        staging = self.directory / "staging"
        staging.mkdir(exist_ok=True)
        self.target.parent.mkdir(exist_ok=True)
        common: dict[str, Any] = {
            "volume_id": volume_id,
            "staging_target_path": str(staging),
            "volume_capability": KINDS[kind],
        }
        context: dict[str, Any] = {"publish_context": publish_context, "secrets": self.secrets}
        self.driver.rpc.node.NodeStageVolume(pb.NodeStageVolumeRequest(**common, **context), timeout=WAIT_S)
        self.driver.rpc.node.NodePublishVolume(
            pb.NodePublishVolumeRequest(**common, **context, target_path=str(self.target)), timeout=WAIT_S
        )

    def detach(self, volume_id: str) -> None:
        node = self.driver.rpc.node
        unpublish = pb.NodeUnpublishVolumeRequest(volume_id=volume_id, target_path=str(self.target))
        node.NodeUnpublishVolume(unpublish, timeout=WAIT_S)
        staging = str(self.directory / "staging")
        node.NodeUnstageVolume(
            pb.NodeUnstageVolumeRequest(volume_id=volume_id, staging_target_path=staging), timeout=WAIT_S
        )


def driver_name(node: str) -> str:
    """A directory of attached images for each node of this test alone, whatever else runs on the machine."""
    return f"{node}-{os.getpid()}.fencing.internal"


def start_node(ceph: DevCeph, name: str) -> Node:
    driver = DriverProcess.start("--driver-name", driver_name(name), clusters=ceph.config_json, node_id=name)
    driver.rpc.node.NodeGetInfo(pb.NodeGetInfoRequest())
    return Node(driver, name, Path(tempfile.mkdtemp(prefix=f"fencing-{name}-")), ceph.secrets("node"))


def remove_node(node: Node) -> None:
    """Nothing of a test that failed stays on the machine: mounts, loop devices, daemons, their files, the driver."""
    run = RUN_DIRECTORY / driver_name(node.name)
    attached = [run / name for name in os.listdir(run)] if run.exists() else []  # noqa: PTH208 - looks at none of them
    for mount in reversed(LocalMounts().table()):
        if mount.target.is_relative_to(node.directory):
            unmount(mount.target)
    for one in Path("/sys/block").glob("loop*/loop/backing_file"):
        if one.read_text().startswith(str(run)):
            commands.run(["losetup", "-d", f"/dev/{one.parent.parent.name}"], timeout_s=20, ok=None)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if words.startswith(b"qemu-storage-daemon") and str(run).encode() in words:
            os.kill(int(path.parent.name), signal.SIGKILL)
    for directory in attached:
        unmount(directory / "disk")
    node.driver.remove()
    shutil.rmtree(node.directory, ignore_errors=True)
    shutil.rmtree(run, ignore_errors=True)


def unmount(target: Path) -> None:
    """Whatever state it is in."""
    commands.run(["umount", "-l", str(target)], timeout_s=20, ok=None)


@pytest.fixture
def nodes(ceph_dev: DevCeph) -> Iterator[tuple[Node, Node]]:
    started: list[Node] = []
    try:
        started += (start_node(ceph_dev, name) for name in ("node-x", "node-y"))
        yield started[0], started[1]
    finally:
        for one in started:
            remove_node(one)


def publish(node: Node, volume_id: str, kind: str) -> dict[str, str]:
    request = pb.ControllerPublishVolumeRequest(volume_id=volume_id, node_id=node.name, volume_capability=KINDS[kind])
    return dict(node.driver.rpc.controller.ControllerPublishVolume(request, timeout=WAIT_S).publish_context)


def node_command(ceph: DevCeph, *arguments: str) -> Ended:
    command = [sys.executable, "-m", "csi_driver", "node", *arguments, "--clusters", str(ceph.config_json)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def lines(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split("\n") if line]


def await_purged(ceph: DevCeph, volume_id: str) -> None:
    """Before its driver ends: one that is killed in the purge leaves its watch, and the next one waits for that."""
    ends = time.monotonic() + WAIT_S
    while any(volume_id[-36:] in line for line in inventory(ceph, Place("rbd"))):
        assert time.monotonic() < ends, "the volume was not purged"
        time.sleep(0.2)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_fenced_node_writes_no_more_and_the_next_one_has_all_that_was_synced(
    kind: str, ceph_dev: DevCeph, nodes: tuple[Node, Node]
) -> None:
    """Nothing that came later is ever there, also when the first node comes back."""
    first, second = nodes
    calls = Calls(first.driver.rpc, ceph_dev.secrets("provisioner"))
    volume_id = calls.create("fenced", SIZE_MIB << 20, capability=KINDS[kind]).volume_id
    first.attach(volume_id, kind, publish(first, volume_id, kind))
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(first.target / "log")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout
    try:
        synced = [int(writer.stdout.readline()) for _ in range(30)]
        again = pb.ControllerPublishVolumeRequest(
            volume_id=volume_id, node_id=second.name, volume_capability=KINDS[kind]
        )
        assert "node-x" in getattr(refusal(second.driver.rpc.controller.ControllerPublishVolume, again), "message", "")

        fenced = node_command(ceph_dev, "fence", first.name)
        assert fenced.code == 0, fenced.err
        rest, trouble = writer.communicate(timeout=WAIT_S)
        assert writer.returncode == 1
        assert "OSError" in trouble, trouble
        synced += [int(line) for line in rest.split()]
    finally:
        writer.kill()
        writer.wait()
    (entry,) = [
        one
        for one in json.loads(ceph_dev.ceph("osd", "blocklist", "ls", "--format", "json").partition("]")[0] + "]")
        if one["addr"] in fenced.out
    ]
    assert int(str(entry["until"])[:4]) >= time.gmtime().tm_year + 19

    second.attach(volume_id, kind, publish(second, volume_id, kind))
    seen = lines(second.target / "log")
    assert seen[: len(synced)] == synced
    assert len(seen) <= len(synced) + 1, "more than the write that was under way when its node was fenced"
    with (second.target / "mine").open("w") as opened:
        opened.write("of the second node")
        os.fsync(opened.fileno())

    first.detach(volume_id)  # it comes back, and writes what it still had
    second.detach(volume_id)
    second.attach(volume_id, kind, {})
    assert lines(second.target / "log") == seen
    assert (second.target / "mine").read_text() == "of the second node"

    assert node_command(ceph_dev, "forget", second.name).code == 1
    second.detach(volume_id)
    withdraw = pb.ControllerUnpublishVolumeRequest(volume_id=volume_id, node_id=second.name)
    second.driver.rpc.controller.ControllerUnpublishVolume(withdraw, timeout=WAIT_S)
    first.attach(volume_id, kind, publish(first, volume_id, kind))
    (first.target / "back").write_text("as another client")
    assert lines(first.target / "log") == seen
    first.detach(volume_id)
    withdraw.node_id = first.name
    first.driver.rpc.controller.ControllerUnpublishVolume(withdraw, timeout=WAIT_S)
    calls.delete_until_done(volume_id)
    await_purged(ceph_dev, volume_id)
    assert node_command(ceph_dev, "forget", second.name).out == f"{second.name}: forgotten\n"
