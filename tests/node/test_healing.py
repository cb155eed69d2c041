"""An rbd-nbd that dies leaves a device that waits: another one serves it, and what is written goes on."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from csi_driver.dev.inventory import Place, leftovers
from csi_driver.dev.layout import DevCeph
from csi_driver.host.mounts import LocalMounts
from csi_driver.pb import csi_pb2 as pb
from tests.controller.calls import Calls
from tests.controller.keeping import await_that
from tests.fixtures.driver import StartDriver
from tests.node.bench import capability
from tests.node.node_process import Node
from tests.node.test_go_takeover import run
from tests.node.traces import NbdTraces

pytestmark = [pytest.mark.attacher("nbd"), pytest.mark.timeout(600)]

SIZE_BYTES = 320 << 20
WAITS = {"mounter": "nbd", "mapOptions": "nbd:try-netlink"}
SERVED_AGAIN_S = 120.0


@pytest.fixture
def calls(ceph_dev: DevCeph, start_driver: StartDriver) -> Iterator[Calls]:
    yield Calls(start_driver("--controller", clusters=ceph_dev.config_json).rpc, ceph_dev.secrets("provisioner"))
    assert leftovers(ceph_dev, Place("rbd")) == frozenset()


@pytest.fixture
def start_node(ceph_dev: DevCeph, start_driver: StartDriver, tmp_path: Path) -> Iterator[Callable[[Path], Node]]:
    def start(clusters: Path) -> Node:
        driver = start_driver("--node", "--driver-name", "healing.csi.test", clusters=clusters)
        return Node(driver, tmp_path, dict(ceph_dev.secrets("node")))

    yield start
    left = [mount.target for mount in LocalMounts().table() if mount.target.is_relative_to(tmp_path)]
    found = NbdTraces(str(tmp_path)).attached()
    for target in reversed(left):
        subprocess.run(["umount", "--lazy", target], check=False)
    NbdTraces(str(tmp_path)).force_clean()
    assert not left
    assert not found


@pytest.fixture
def node(start_node: Callable[[Path], Node], ceph_dev: DevCeph) -> Node:
    return start_node(ceph_dev.config_json)


@pytest.fixture
def without_credentials(ceph_dev: DevCeph, tmp_path: Path) -> Path:
    """A clusters file."""
    entries = [{**one, "credentials": None} for one in json.loads(ceph_dev.config_json.read_text())]
    clusters = tmp_path / "without.json"
    clusters.write_text(json.dumps(entries))
    return clusters


class Writer:
    """Appends and syncs a line at a time, for as long as it is not told to end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0
        self.failure: OSError | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        try:
            with self.path.open("w") as opened:
                while not self._ending.is_set():
                    opened.write(f"line {self.lines}\n")
                    opened.flush()
                    os.fsync(opened.fileno())
                    self.lines += 1
        except OSError as error:
            self.failure = error

    def await_lines(self, more: int) -> None:
        wanted, deadline = self.lines + more, time.monotonic() + SERVED_AGAIN_S
        while self.lines < wanted:
            assert not self.failure
            assert time.monotonic() < deadline, "nothing was written any more"
            time.sleep(0.05)

    def end(self) -> None:
        self._ending.set()
        self._thread.join(SERVED_AGAIN_S)
        assert self.path.read_text().splitlines() == [f"line {number}" for number in range(self.lines)]


def kill_program() -> None:
    """The only one."""
    (program,) = NbdTraces("").programs()
    os.kill(program, signal.SIGKILL)
    await_that(lambda: program not in NbdTraces("").programs(), "its end")


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_what_is_written_goes_on_when_the_program_has_died(node: Node, calls: Calls, *, is_encrypted: bool) -> None:
    encryption = {"encrypted": "true"} if is_encrypted else {}
    node.secrets["encryptionPassphrase"] = "correct horse battery staple"
    volume = calls.create("healed", SIZE_BYTES, parameters={**WAITS, **encryption}, capability=capability())
    writer = Writer(node.use(volume, capability(), name="healed") / "file")
    for _ in range(2):
        writer.await_lines(5)
        kill_program()
    writer.await_lines(5)
    writer.end()
    node.leave()
    calls.delete_until_done(volume.volume_id)


def test_a_driver_that_starts_finds_what_has_died_before(node: Node, calls: Calls) -> None:
    """As with a driver whose pod takes the programs along."""
    volume = calls.create("healed", SIZE_BYTES, parameters=WAITS, capability=capability(block=True))
    target = node.use(volume, capability(block=True), name="healed")
    node.driver.stop()
    kill_program()
    node.driver.restart({})
    with target.open("r+b", buffering=0) as opened:
        opened.write(b"data" * 1024)
        os.fsync(opened.fileno())
    node.leave()
    calls.delete_until_done(volume.volume_id)


def test_without_credentials_it_waits_for_a_stage_that_has_some(
    start_node: Callable[[Path], Node], without_credentials: Path, calls: Calls
) -> None:
    node = start_node(without_credentials)
    volume = calls.create("healed", SIZE_BYTES, parameters=WAITS, capability=capability())
    writer = Writer(node.use(volume, capability(), name="healed") / "file")
    writer.await_lines(5)
    kill_program()
    await_that(lambda: "waits for another" in node.driver.log_text(), "the driver tells what it lacks")
    staging = node.directory / "staging-healed"
    asked = pb.NodeGetVolumeHealthRequest(volume_id=volume.volume_id, staging_target_path=str(staging))
    (trouble,) = node.driver.rpc.node.NodeGetVolumeHealth(asked).volume_health.health_statuses
    assert trouble.reason == "DeviceFails"
    assert "waits for a program" in trouble.message
    node.call(node.driver.rpc.node.NodeStageVolume, node.stage_request(volume, capability(), staging))
    writer.await_lines(5)
    writer.end()
    node.leave()
    calls.delete_until_done(volume.volume_id)


def test_what_nobody_serves_is_unstaged_when_its_time_is_over(
    start_node: Callable[[Path], Node], without_credentials: Path, calls: Calls
) -> None:
    node = start_node(without_credentials)
    options = {"mounter": "nbd", "mapOptions": "nbd:try-netlink,reattach-timeout=5"}
    volume = calls.create("lost", SIZE_BYTES, parameters=options, capability=capability())
    node.use(volume, capability(), name="lost")
    kill_program()
    node.leave()
    await_that(
        lambda: not calls.delete(volume.volume_id), "the watch of the program that died is over, and it is deleted"
    )


def test_a_device_of_the_go_driver_is_served_once_its_plugin_is_gone(
    node: Node, calls: Calls, ceph_dev: DevCeph
) -> None:
    volume = calls.create("taken", SIZE_BYTES, capability=capability())
    node.driver.stop()
    staging = stage_as_go(volume, node.directory / "staging-taken", ceph_dev)
    writer = Writer(staging / "file")
    node.driver.restart({})
    writer.await_lines(5)
    assert "lost its program" not in node.driver.log_text()
    kill_program()
    writer.await_lines(5)
    writer.end()
    node.used.append((volume.volume_id, "taken"))
    node.leave()
    calls.delete_until_done(volume.volume_id)


def stage_as_go(volume: pb.Volume, staging: Path, ceph: DevCeph) -> Path:
    """Mapped as there, formatted, mounted; where."""
    image = f"csi-vol-{volume.volume_id[-36:]}"
    staging.mkdir()
    options = ("--try-netlink", "--reattach-timeout=300", "--io-timeout=0", f"--cookie={volume.volume_id}")
    keyring = ("--conf", str(ceph.conf), "--keyring", str(ceph.keyring), "--id", "admin")
    device = run("rbd-nbd", *keyring, *options, "map", f"rbd/{image}")
    record = {"Version": 3, "pool": "rbd", "radosNamespace": "", "image": image, "unmapOptions": ""}
    record |= {"accessType": True, "encrypted": False, "device": device, "logDir": "", "logFileStrategy": ""}
    (staging / "image-meta.json").write_text(json.dumps(record, separators=(",", ":")))
    run("mkfs.ext4", "-q", "-m0", device)
    place = staging / str(volume.volume_id)
    place.mkdir()
    run("mount", "-t", "ext4", "-o", "_netdev", device, place)
    return place
