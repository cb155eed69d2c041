"""NBD devices that have lost their program: another one serves them, or what waits on them fails (host.api.Recovery)."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from csi_driver.addresses import ImageAddress
from csi_driver.host import byte_locks, cgroups, nbd_program
from csi_driver.host.api import Attachment
from csi_driver.host.nbd_devices import NbdDevices
from csi_driver.host.nbd_program import MapOptions
from csi_driver.tracing import step

_LOCK_TIMEOUT_S = 30.0


def held(lock_file: Path, attachment: Attachment) -> AbstractContextManager[int]:
    """Whoever changes what the kernel has of an image has this lock, across processes."""
    return byte_locks.held(lock_file, f"image {attachment.spec}", timeout_s=_LOCK_TIMEOUT_S)


class NbdRecovery:
    """Lost devices are told by sysfs and /proc, as all others are."""

    def __init__(self, devices: NbdDevices, lock_file: Path) -> None:
        self._devices = devices
        self._lock_file = lock_file

    def lost_volumes(self) -> list[str]:
        return self._devices.lost_volumes()

    def is_lost(self, attachment: Attachment) -> bool:
        return bool(self._devices.lost(attachment))

    def serve_again(self, attachment: Attachment, address: ImageAddress, options: Sequence[str]) -> None:
        wanted = MapOptions.parse(options)
        with held(self._lock_file, attachment):
            for one in self._devices.lost(attachment)[:1]:
                as_it_was = replace(attachment, read_only=one.is_read_only)
                with step("nbd.reattach", attachment.spec):
                    nbd_program.reattach(as_it_was, address, one.device.path, wanted)
                for server in self._devices.servers(attachment):
                    cgroups.leave(server.pid)

    def patience_s(self, options: Sequence[str]) -> float:
        return MapOptions.parse(options).reattach_timeout_s

    def give_up(self, attachment: Attachment) -> None:
        with held(self._lock_file, attachment):
            for one in self._devices.lost(attachment):
                nbd_program.unmap(one.device.path)
