"""Volumes whose class keeps them after their delete, with known data, and the commands that bring them back."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from csi_driver.ceph.api import Pool, Write
from csi_driver.dev.layout import DevCeph
from csi_driver.journal import layout
from csi_driver.journal.layout import VOLUMES
from csi_driver.pb import csi_pb2 as pb
from tests import image_data, volume_command
from tests.controller.calls import Calls, handle_parts
from tests.controller.rows import row_of
from tests.driver import DriverProcess

MIB = 1 << 20
DATA = b"original"
_SOON_S = 60.0


@dataclass(frozen=True)
class Keeping:
    """One driver, its pool, and the operator beside it."""

    driver: DriverProcess
    calls: Calls
    ceph: DevCeph
    pool: Pool

    def create(self, name: str, retention: str = "1h") -> pb.Volume:
        volume = self.calls.create_until_done(name, 8 * MIB, parameters={"trashRetention": retention})
        image_data.write(self.ceph, volume.volume_context["imageName"], DATA)
        return volume

    def reads(self, volume: pb.Volume) -> bytes:
        return image_data.read(self.ceph, volume.volume_context["imageName"], len(DATA))

    def undelete(self, volume: pb.Volume, failpoints: str = "") -> volume_command.Ended:
        return volume_command.run(self.ceph.config_json, "undelete", volume.volume_id, failpoints=failpoints)

    def begin_undelete(self, volume: pb.Volume, failpoints: str) -> volume_command.Running:
        return volume_command.Running(self.ceph.config_json, "undelete", volume.volume_id, failpoints=failpoints)

    def listed(self) -> list[str]:
        """The lines of `rbd-csi volume deleted` below its head."""
        ended = volume_command.run(self.ceph.config_json, "deleted")
        assert (ended.code, ended.err) == (0, "")
        return ended.out.splitlines()[1:]

    def keys(self, volume: pb.Volume) -> dict[str, str] | None:
        return self.pool.objects.read(VOLUMES.object(handle_parts(volume.volume_id)[2]))

    def state(self, volume: pb.Volume) -> str:
        return (self.keys(volume) or {}).get(layout.STATE, "")

    def kept_until(self, volume: pb.Volume) -> float:
        return float((self.keys(volume) or {})[layout.KEPT_UNTIL])

    def row(self, name: str, volume: pb.Volume) -> str:
        return row_of(self.pool, name, handle_parts(volume.volume_id)[2])

    def await_gone(self, volume: pb.Volume) -> None:
        await_that(lambda: self.keys(volume) is None, "the volume is purged")

    def let_purge_pass(self) -> None:
        """Until the driver has looked through all that is deleted: with the second of two, it has been round once."""
        for name in ("passes-1", "passes-2"):
            plain = self.calls.create_until_done(name, 8 * MIB)
            self.calls.delete_until_done(plain.volume_id)
            self.await_gone(plain)

    def delete_for_good(self, volume: pb.Volume) -> None:
        """As if its class had no retention."""
        name = VOLUMES.object(handle_parts(volume.volume_id)[2])
        self.pool.objects.apply(name, Write(put={layout.RETENTION: ""}))
        self.calls.delete_until_done(volume.volume_id)


def await_that(is_so: Callable[[], bool], what: str, *, within_s: float = _SOON_S) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.05)
