"""Attacher `nbd`: the image opened by librbd in a program of its own (rbd-nbd), shown by the kernel's NBD client.

Nothing is persisted: device and program are found in sysfs and /proc (nbd_devices.py). The program (nbd_program.py) leaves
our cgroup, and outlives us. When it dies, its device dies, or is lost: connected by netlink, it waits for another program.

NBD lets a device in use be disconnected, which ends the file system on it and drops what was not written yet: so whether
somebody has it is looked at first, and the device is synced.
"""

import errno
import mmap
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from csi_driver.addresses import ImageAddress
from csi_driver.errors import DeviceTrouble, InUse, InvalidRequest
from csi_driver.host import cgroups, commands, nbd_program
from csi_driver.host.api import Attachment, Device
from csi_driver.host.bounded import bounded
from csi_driver.host.holders import holders
from csi_driver.host.nbd_devices import PROGRAM, NbdDevices
from csi_driver.host.nbd_program import MapOptions
from csi_driver.host.nbd_recovery import NbdRecovery, held
from csi_driver.model import ImageTraits
from csi_driver.tracing import step

log = structlog.get_logger(__name__)

_MODPROBE_TIMEOUT_S = 45.0
_SYNC_TIMEOUT_S = 45.0
_LOOK_TIMEOUT_S = 8.0
_SETTLE_S = 15.0
"""How long a program that a killed driver has started may take until its device is there."""
_END_S = 10.0
_BUSY_PATIENCE_S = 10.0
_HEARD_S = 10.0
"""How long a new size may take from the image's header to the kernel."""
_POLL_S = 0.1


class NbdAttacher:
    """Images as NBD devices (host.api.Attacher)."""

    name = "nbd"
    holds_limits = True

    def __init__(self, run_directory: Path, devices: NbdDevices | None = None) -> None:
        self._lock_file = run_directory / "nbd.lock"
        self._devices = devices or NbdDevices()
        self.recovery = NbdRecovery(self._devices, self._lock_file)

    def unavailable_reason(self) -> str | None:
        if not shutil.which(PROGRAM):
            return f"the program {PROGRAM} is not installed"
        if not self._devices.is_there() and shutil.which("modprobe"):
            commands.run(["modprobe", "nbd"], timeout_s=_MODPROBE_TIMEOUT_S, ok=None)
        if not self._devices.is_there():
            return f"kernel {os.uname().release} has no module nbd, or it cannot be loaded from here"
        return None

    def refusal(self, traits: ImageTraits) -> str | None:  # noqa: ARG002 - librbd can all of it
        return None

    def attach(self, attachment: Attachment, address: ImageAddress, options: Sequence[str]) -> Device:
        wanted = MapOptions.parse(options)
        with held(self._lock_file, attachment):
            self._await_settled(attachment)
            if device := self.find(attachment):
                return device
            self._clear(attachment)
            with step("nbd.map", attachment.spec):
                nbd_program.map_image(attachment, address, wanted)
            for server in self._devices.servers(attachment):
                cgroups.leave(server.pid)
            device = self.find(attachment)
        if device is None:
            raise DeviceTrouble(f"image {attachment.spec} was mapped and is gone again")
        return device

    def find(self, attachment: Attachment) -> Device | None:
        has_rights = any(one.is_read_only == attachment.read_only for one in self._devices.servers(attachment))
        connected = self._devices.connected(attachment)
        if not has_rights or len(connected) != 1 or not connected[0].device.size_bytes:
            return None
        return None if _read_failure(connected[0].device) else connected[0].device

    def why_dead(self, attachment: Attachment) -> str | None:
        if lost := self._devices.lost(attachment):
            return f"{lost[0].device.path} waits for a program that serves it: the one before has ended"
        failures = (_read_failure(one.device) for one in self._devices.connected(attachment))
        return next(filter(None, failures), None)

    def refresh_size(self, attachment: Attachment, at_least: int) -> Device:
        """The program hears of a new size from the image's header, a little later than the controller."""
        first = self._attached(attachment)

        def has_heard() -> bool:
            size_bytes = self._attached(attachment).size_bytes
            return size_bytes >= at_least if at_least else size_bytes != first.size_bytes

        _becomes_true(has_heard, _HEARD_S)
        return self._attached(attachment)

    def _attached(self, attachment: Attachment) -> Device:
        device = self.find(attachment)
        if device is None:
            raise InUse(f"image {attachment.spec} is not attached here any more: unstage and stage the volume again")
        return device

    def detach(self, attachment: Attachment, options: Sequence[str]) -> None:
        if options:
            raise InvalidRequest(f"unmapOptions: nbd has none, and {', '.join(options)} is given")
        with held(self._lock_file, attachment), step("nbd.unmap", attachment.spec):
            self._clear(attachment)

    def _clear(self, attachment: Attachment) -> None:
        """Neither device nor program is left. Raises DeviceTrouble while somebody has the device."""
        for one in self._devices.connected(attachment):
            self._await_unused(attachment, one.device)
            _write_back(one.device)
            nbd_program.unmap(one.device.path)
        for lost in self._devices.lost(attachment):
            self._await_unused(attachment, lost.device)
            nbd_program.unmap(lost.device.path)
        self._end_servers(attachment)
        if not _becomes_true(lambda: not self._paths(attachment), _END_S):
            raise DeviceTrouble(f"image {attachment.spec} is unmapped, and its device is still there")

    def _await_unused(self, attachment: Attachment, device: Device) -> None:
        """Raises DeviceTrouble that names who has it."""
        servers = [server.pid for server in self._devices.servers(attachment)]
        deadline = time.monotonic() + _BUSY_PATIENCE_S
        while (who := holders(device.number, servers=servers)) or _is_claimed(device.path):
            if time.monotonic() > deadline:
                raise DeviceTrouble(f"{device.path} is still in use: {'; '.join(who) or 'nobody that can be seen'}")
            time.sleep(_POLL_S)

    def _end_servers(self, attachment: Attachment) -> None:
        def is_ended() -> bool:
            return not self._devices.servers(attachment)

        for sign in (signal.SIGTERM, signal.SIGKILL):
            if _becomes_true(is_ended, _END_S / 2 if sign is signal.SIGKILL else 1.0):
                return
            for server in self._devices.servers(attachment):
                with suppress(ProcessLookupError):
                    os.kill(server.pid, sign)
        if not _becomes_true(is_ended, _END_S):
            raise DeviceTrouble(f"the program that serves image {attachment.spec} does not end")

    def _await_settled(self, attachment: Attachment) -> None:
        """A driver that was killed may have left a program that is just about to connect its device."""

        def is_settled() -> bool:
            return not self._devices.servers(attachment) or bool(self._paths(attachment))

        _becomes_true(is_settled, _SETTLE_S)

    def _paths(self, attachment: Attachment) -> list[Path]:
        found = (*self._devices.connected(attachment), *self._devices.lost(attachment))
        return [one.device.path for one in found]


def _read_failure(device: Device) -> str | None:
    """Of its first block, read past the page cache."""
    try:
        bounded(f"read {device.path}", lambda: _read_first(device.path), _LOOK_TIMEOUT_S)
    except OSError as error:
        return f"{device.path} cannot be read: {error.strerror}"
    return None


def _read_first(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, mmap.PAGESIZE) as buffer:
            os.preadv(descriptor, [buffer], 0)
    finally:
        os.close(descriptor)


def _write_back(device: Device) -> None:
    """What programs wrote and did not sync: its last close does not do it, since rbd-nbd itself has the device open."""

    def sync() -> None:
        descriptor = os.open(device.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    try:
        bounded(f"sync {device.path}", sync, _SYNC_TIMEOUT_S)
    except OSError as error:
        log.warning(
            "what was not written before is lost: the device is dead", device=str(device.path), reason=str(error)
        )


def _is_claimed(path: Path) -> bool:
    """By a mount or a mapper of any namespace."""

    def is_busy() -> bool:
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            return error.errno == errno.EBUSY
        return False

    return bounded(f"open {path}", is_busy, _LOOK_TIMEOUT_S)


def _becomes_true(condition: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
