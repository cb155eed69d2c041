"""Attacher `fuse`: the image in user space (storage_daemon.py), made a block device by a loop device (loop.py).

Needs no kernel module of Ceph: /dev/fuse, loop devices and qemu-storage-daemon with its rbd driver. What is persisted is
one directory per volume under the run directory, named by a digest of the volume id; see storage_daemon.py for its files.

For a container: the run directory is a directory of the host, mounted with bidirectional propagation, since a FUSE mount
lies in it; process ids and cgroups are the host's. Then the end of the container ends neither daemon nor mount. The daemon
keeps its mount namespace, and with it the files of the image it was started from, alive.

Order: daemon, loop device; back: loop device (waiting until nobody has it open), daemon.
"""

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from csi_driver.addresses import ImageAddress
from csi_driver.errors import InUse, InvalidRequest, Rejected
from csi_driver.host import loop
from csi_driver.host.api import Attachment, Device
from csi_driver.host.storage_daemon import PROGRAM, StorageDaemon
from csi_driver.model import ImageTraits
from csi_driver.tracing import step

_SOCKET_PATH_BYTES = 107
_OPTION = re.compile(r"(rbd_[a-z0-9_]+)=([A-Za-z0-9_.:/-]+)")


class FuseAttacher:
    """Images as loop devices over FUSE files (host.api.Attacher)."""

    name = "fuse"
    holds_limits = True
    recovery = None

    def __init__(self, run_directory: Path) -> None:
        longest = run_directory / self._digest("") / "qmp.sock"
        if len(str(longest).encode()) > _SOCKET_PATH_BYTES:
            raise InvalidRequest(f"run directory {run_directory} is too long a path: sockets lie under it")
        self._run_directory = run_directory

    def unavailable_reason(self) -> str | None:
        for device in ("/dev/fuse", "/dev/loop-control"):
            if not Path(device).exists():
                return f"{device} is missing"
        if not shutil.which(PROGRAM):
            return f"{PROGRAM} is not installed"
        return None

    def refusal(self, traits: ImageTraits) -> str | None:  # noqa: ARG002 - librbd can all of it
        return None

    def attach(self, attachment: Attachment, address: ImageAddress, options: Sequence[str]) -> Device:
        settings = _settings(options)
        daemon = self._daemon(attachment)
        if daemon.exists() and not daemon.serves(attachment):
            self.detach(attachment, ())
        if not daemon.exists():
            try:
                daemon.start(attachment, address, settings)
            except Rejected:
                daemon.stop()
                raise
        daemon.leave_cgroup()
        for device in loop.find(daemon.file):
            if loop.holds(device, daemon.file):
                return device
        with step("fuse.loop", attachment.spec):
            return loop.attach(daemon.file, read_only=attachment.read_only)

    def find(self, attachment: Attachment) -> Device | None:
        daemon = self._daemon(attachment)
        if not daemon.serves(attachment):
            return None
        return next((device for device in loop.find(daemon.file) if loop.holds(device, daemon.file)), None)

    def why_dead(self, attachment: Attachment) -> str | None:  # noqa: ARG002 - the seam's
        """None: the device is gone with its daemon."""
        return None

    def refresh_size(self, attachment: Attachment, at_least: int) -> Device:  # noqa: ARG002 - asked for, and not awaited
        device = self.find(attachment)
        if device is None:
            raise InUse(f"image {attachment.spec} is not attached here any more: unstage and stage the volume again")
        with step("fuse.refresh_size", attachment.spec):
            size_bytes = self._daemon(attachment).grow()
            if device.size_bytes < size_bytes // 512 * 512:
                loop.refresh_size(device)
        return next(found for found in loop.find(self._daemon(attachment).file) if found.path == device.path)

    def detach(self, attachment: Attachment, options: Sequence[str]) -> None:  # noqa: ARG002 - the seam's; no options here
        daemon = self._daemon(attachment)
        with step("fuse.unloop", attachment.spec):
            loop.detach(daemon.file)
        with step("fuse.stop", attachment.spec):
            daemon.stop()

    def _daemon(self, attachment: Attachment) -> StorageDaemon:
        return StorageDaemon(self._run_directory / self._digest(attachment.volume_id))

    @staticmethod
    def _digest(volume_id: str) -> str:
        return hashlib.sha256(volume_id.encode()).hexdigest()[:20]


def _settings(options: Sequence[str]) -> dict[str, str]:
    """mapOptions of this attacher are librbd's settings, `rbd_NAME=VALUE`."""
    settings = {}
    for option in options:
        match = _OPTION.fullmatch(option)
        if not match:
            raise InvalidRequest(f"mapOptions: {option!r} is not known to the fuse mounter; allowed are rbd_NAME=VALUE")
        settings[match[1]] = match[2]
    return settings
