"""Group snapshots under load: a writer alternates over three attached volumes, each write after the one before is on disk.

Every restored set must hold a prefix of the order of writes. RBD_CSI_GROUP_CUTS sets how many groups are cut.
"""

import mmap
import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests import image_data
from tests.controller.attached import Attached, attached
from tests.controller.calls import Calls
from tests.controller.group_calls import delete_group_until_done, group_until_done
from tests.controller.test_copies import image_of
from tests.fixtures.driver import StartDriver
from tests.rpc.valid_requests import block

pytestmark = pytest.mark.usefixtures("clean_pool")

CUTS = int(os.environ.get("RBD_CSI_GROUP_CUTS", "4"))
MIB = 1 << 20
SECTOR = 4096
LONGEST_S = 2.0


@dataclass
class Writer:
    """Writes the numbers 1, 2, 3 … to the first sector of one device after the other, past every cache."""

    devices: list[Attached]
    written: int = 0
    longest_s: float = 0.0
    trouble: list[BaseException] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        page = mmap.mmap(-1, SECTOR)
        with ExitStack() as stack:
            opened = []
            for device in self.devices:
                opened.append(os.open(device.path, os.O_RDWR | os.O_DIRECT | os.O_SYNC))
                stack.callback(os.close, opened[-1])
            try:
                while not self.ended.is_set():
                    number = self.written + 1
                    page[:8] = number.to_bytes(8, "little")
                    began = time.monotonic()
                    os.pwrite(opened[number % len(opened)], page, 0)
                    self.longest_s = max(self.longest_s, time.monotonic() - began)
                    self.written = number
            except OSError as error:
                self.trouble.append(error)

    def await_writes(self, count: int) -> None:
        """So many more."""
        wanted, deadline = self.written + count, time.monotonic() + 120
        while self.written < wanted:
            assert not self.trouble
            assert time.monotonic() < deadline, "the writer stands still"
            time.sleep(0.01)


def is_prefix(numbers: list[int]) -> bool:
    """Whether these are the last numbers on the devices at one moment: `numbers[n]` is the last that went to device n."""
    last = max(numbers)
    return all(
        number == next((one for one in range(last, 0, -1) if one % len(numbers) == place), 0)
        for place, number in enumerate(numbers)
    )


@pytest.mark.parametrize(
    ("numbers", "is_one"),
    [
        ([0, 0, 0], True),
        ([3, 4, 5], True),
        ([6, 4, 5], True),
        ([3, 7, 5], False),
        ([6, 7, 5], True),
        ([0, 4, 2], False),
    ],
)
def test_a_prefix_is_told_from_what_is_none(numbers: list[int], is_one: bool) -> None:
    assert is_prefix(numbers) is is_one


def test_every_group_is_a_prefix_of_the_writes(ceph_dev: DevCeph, start_driver: StartDriver, tmp_path: Path) -> None:
    driver = start_driver("--driver-name", "groups.csi.internal", clusters=ceph_dev.config_json)
    calls = Calls(driver.rpc, ceph_dev.secrets("provisioner"))
    volumes = [calls.create(f"ordered-{number}", 8 * MIB, capability=block()) for number in range(3)]
    groups: list[tuple[pb.VolumeGroupSnapshot, int]] = []
    with ExitStack() as stack:
        node = ceph_dev.secrets("node")
        writer = Writer([stack.enter_context(attached(driver.rpc, one, node, tmp_path)) for one in volumes])
        thread = threading.Thread(target=writer.run)
        thread.start()
        try:
            writer.await_writes(6)
            for cut in range(CUTS):
                before = writer.written
                groups.append((group_until_done(calls, f"group-{cut}", volumes), before))
                writer.await_writes(6)
        finally:
            writer.ended.set()
            thread.join(60)
    assert not writer.trouble
    print(f"{CUTS} cuts, {writer.written} writes, longest {writer.longest_s:.2f} s")  # noqa: T201 - the test's report
    for group, before in groups:
        numbers = _restored(calls, ceph_dev, group, volumes)
        assert is_prefix(numbers), numbers
        assert max(numbers) >= before, "what was on disk before the call is in it"
        delete_group_until_done(calls, group)
    assert writer.longest_s < LONGEST_S
    for volume in volumes:
        calls.delete_until_done(volume.volume_id)


def _restored(calls: Calls, ceph: DevCeph, group: pb.VolumeGroupSnapshot, volumes: list[pb.Volume]) -> list[int]:
    """The last number on each volume's copy, in the volumes' order."""
    snapshots = {one.source_volume_id: one for one in group.snapshots}
    found = []
    for volume in volumes:
        copy = calls.create_until_done(f"restored-{volume.volume_id[-8:]}", 0, source=snapshots[volume.volume_id])
        found.append(int.from_bytes(image_data.read(ceph, image_of(copy), 8), "little"))
        calls.delete_until_done(copy.volume_id)
    return found
