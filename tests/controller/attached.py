"""A block volume attached through the driver, and the rate at which one client of it reads or writes."""

import mmap
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from csi_driver.pb import csi_pb2 as pb
from tests.client import Driver
from tests.rpc.valid_requests import block


@dataclass(frozen=True)
class Attached:
    """A published block device."""

    path: Path

    def writes_per_s(self, seconds: float, size_bytes: int = 4096, settling_s: float = 1.5) -> float:
        return self._rate(seconds, size_bytes, settling_s, writes=True)

    def reads_per_s(self, seconds: float, size_bytes: int = 4096, settling_s: float = 1.5) -> float:
        return self._rate(seconds, size_bytes, settling_s, writes=False)

    def _rate(self, seconds: float, size_bytes: int, settling_s: float, *, writes: bool) -> float:
        """One request after the other, past every cache. The first moments are not counted: what was saved up is spent."""
        page = mmap.mmap(-1, size_bytes)
        page.write(os.urandom(size_bytes))
        opened = os.open(self.path, os.O_RDWR | os.O_DIRECT)
        try:
            places = os.lseek(opened, 0, os.SEEK_END) // size_bytes
            counted, number, began = 0, 0, time.monotonic()
            while (now := time.monotonic() - began) < settling_s + seconds:
                offset = number % places * size_bytes
                os.pwrite(opened, page, offset) if writes else os.preadv(opened, [page], offset)
                number += 1
                counted += now >= settling_s
            return counted / (time.monotonic() - began - settling_s)
        finally:
            os.close(opened)


@contextmanager
def attached(driver: Driver, volume: pb.Volume, secrets: Mapping[str, str], directory: Path) -> Iterator[Attached]:
    """Staged and published while the context lasts."""
    staging, target = directory / f"staging-{volume.volume_id[-12:]}", directory / f"target-{volume.volume_id[-12:]}"
    staging.mkdir()
    driver.node.NodeStageVolume(
        pb.NodeStageVolumeRequest(
            volume_id=volume.volume_id,
            staging_target_path=str(staging),
            volume_capability=block(),
            secrets=secrets,
            volume_context=volume.volume_context,
        ),
        timeout=120,
    )
    try:
        driver.node.NodePublishVolume(
            pb.NodePublishVolumeRequest(
                volume_id=volume.volume_id,
                staging_target_path=str(staging),
                target_path=str(target),
                volume_capability=block(),
                volume_context=volume.volume_context,
            ),
            timeout=120,
        )
        yield Attached(target)
    finally:
        driver.node.NodeUnpublishVolume(
            pb.NodeUnpublishVolumeRequest(volume_id=volume.volume_id, target_path=str(target)), timeout=120
        )
        driver.node.NodeUnstageVolume(
            pb.NodeUnstageVolumeRequest(volume_id=volume.volume_id, staging_target_path=str(staging)), timeout=120
        )
