"""Attacher `krbd`: the image as a block device of the kernel's own client, mapped by the rbd tool.

Nothing is persisted: what is mapped is asked of sysfs (krbd_devices.py). The rbd tool gets the cephx key in a file of
memory whose descriptor it inherits, and leaves it in a keyring of its own, which ends with it; the kernel's client keeps
its copy. So the key is in no argument, environment, sysfs file or file of a disk.

One volume is mapped once: a byte lock (byte_locks.py) is held for as long as the tool runs, also when the process that
started it is killed, so that the next one never maps a second time beside it.

For a container: the host's network namespace, since the kernel's client stays in the one it was made in and ends with it.
"""

import errno
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import structlog

from csi_driver.addresses import ImageAddress
from csi_driver.errors import (
    AccessDenied,
    ClusterTimeout,
    ClusterUnavailable,
    DeviceTrouble,
    DriverError,
    InUse,
    InvalidRequest,
    NotFound,
    Unauthenticated,
)
from csi_driver.host import byte_locks, commands, krbd_options
from csi_driver.host.api import Attachment, Device, PodLimits
from csi_driver.host.bounded import bounded
from csi_driver.host.holders import holders
from csi_driver.host.krbd_devices import KrbdDevices, MappedImage
from csi_driver.host.pod_limits import CgroupLimits
from csi_driver.model import ImageTraits
from csi_driver.tracing import step

log = structlog.get_logger(__name__)

PROGRAM = "rbd"

_CONNECT_TIMEOUT_S = 10
_MAP_TIMEOUT_S = 45.0
_UNMAP_TIMEOUT_S = 45.0
_LOCK_TIMEOUT_S = 30.0
_REFRESH_TIMEOUT_S = 8.0
_BUSY_PATIENCE_S = 10.0
"""How long a device that is still open is asked for again: udev and blkid look at devices for moments."""
_POLL_S = 0.25

_DEAD = {
    errno.ESHUTDOWN: "Ceph has this node's client on its blocklist",
    errno.ENOENT: "its image does not exist any more",
}


class KrbdAttacher:
    """Images mapped by the kernel (host.api.Attacher)."""

    name = "krbd"
    holds_limits = False
    recovery = None

    def __init__(
        self,
        run_directory: Path,
        devices: KrbdDevices | None = None,
        crush_location: krbd_options.Locate = lambda _labels: {},
        limits: PodLimits | None = None,
    ) -> None:
        """crush_location: this node's buckets by their types, some of them by the labels that a cluster's entry names.

        limits: what holds limits of I/O here, in the place of the attacher.
        """
        self._lock_file = run_directory / "krbd.lock"
        self._devices = devices or KrbdDevices()
        self._crush_location = crush_location
        self._limits = limits or CgroupLimits()

    def unavailable_reason(self) -> str | None:
        if not self._devices.is_there() and shutil.which("modprobe"):
            commands.run(["modprobe", "rbd"], timeout_s=_MAP_TIMEOUT_S, ok=None)
        if not self._devices.is_there():
            return f"kernel {os.uname().release} has no module rbd, or it cannot be loaded from here"
        if not shutil.which(PROGRAM):
            return f"the program {PROGRAM} is not installed"
        if _is_other_network(Path("/proc")):
            return (
                "this process is in a network namespace of its own; the kernel's client needs the host's (hostNetwork)"
            )
        return None

    def refusal(self, traits: ImageTraits) -> str | None:
        if str(traits.limits) and (reason := self._limits.unavailable_reason()):
            return f"the volume has limits of I/O, and {reason}"
        if unknown := self._devices.unknown_features(traits.features):
            return (
                f"kernel {os.uname().release} does not know the image's {', '.join(unknown)}: leave it out of the class "
                "parameter imageFeatures"
            )
        return None

    def attach(self, attachment: Attachment, address: ImageAddress, options: Sequence[str]) -> Device:
        words = krbd_options.parse("mapOptions", options)
        with self._lock(attachment) as lock:
            if device := self.find(attachment):
                return device
            for image in self._all_of(attachment):
                self._unmap(image, (), lock)
            words += krbd_options.nearest(address, words, self._crush_location)
            with step("krbd.map", attachment.spec):
                self._map(attachment, address, words, lock)
            device = self.find(attachment)
        if device is None:
            raise DeviceTrouble(f"image {attachment.spec} was mapped and is gone again")
        return device

    def find(self, attachment: Attachment) -> Device | None:
        for image in self._all_of(attachment):
            if image.is_read_only == attachment.read_only and not self._why_dead(image):
                return next((one.device for one in self._all_of(attachment) if one.number == image.number), None)
        return None

    def why_dead(self, attachment: Attachment) -> str | None:
        return next(filter(None, map(self._why_dead, self._all_of(attachment))), None)

    def refresh_size(self, attachment: Attachment, at_least: int) -> Device:  # noqa: ARG002 - asked for, and not awaited
        device = self.find(attachment)
        if device is None:
            raise InUse(f"image {attachment.spec} is not attached here any more: unstage and stage the volume again")
        return device  # `find` has it read anew

    def detach(self, attachment: Attachment, options: Sequence[str]) -> None:
        words = krbd_options.parse("unmapOptions", options)
        with self._lock(attachment) as lock:
            for image in self._all_of(attachment):
                with step("krbd.unmap", attachment.spec):
                    self._unmap(image, words, lock)

    def _why_dead(self, image: MappedImage) -> str | None:
        """The kernel reads the header anew: a client that was cut off is told so, which reading an empty image does not."""
        try:
            bounded(f"refresh {image.device.path}", lambda: self._devices.refresh(image.number), _REFRESH_TIMEOUT_S)
        except OSError as error:
            if error.errno in _DEAD:
                return f"{image.device.path} fails: {_DEAD[error.errno]}"
            raise DeviceTrouble(f"the kernel cannot look at image {image.spec}: {error.strerror}") from error
        return None

    def _all_of(self, attachment: Attachment) -> list[MappedImage]:
        return [image for image in self._devices.mapped() if image.is_image_of(attachment)]

    def _lock(self, attachment: Attachment) -> AbstractContextManager[int]:
        return byte_locks.held(self._lock_file, f"image {attachment.spec}", timeout_s=_LOCK_TIMEOUT_S)

    def _map(self, attachment: Attachment, address: ImageAddress, words: Sequence[str], lock: int) -> None:
        ended = self._run_map(attachment, address, words, lock)
        if ended.code == errno.ESHUTDOWN:  # the kernel took a client that it has, which the cluster refuses
            ended = self._run_map(attachment, address, (*words, "noshare"), lock)
        if ended.code:
            raise meaning(ended, attachment, address)

    def _run_map(
        self, attachment: Attachment, address: ImageAddress, words: Sequence[str], lock: int
    ) -> commands.Completed:
        key = os.memfd_create("key", os.MFD_CLOEXEC)
        try:
            os.write(key, address.credentials.key.encode())
            argv = [PROGRAM, "device", "map", attachment.spec, "--conf", "/dev/null"]
            argv += ["--mon-host", ",".join(address.monitors), "--id", address.credentials.user]
            argv += ["--keyfile", f"/proc/self/fd/{key}", "--client-mount-timeout", str(_CONNECT_TIMEOUT_S)]
            argv += ["--options", ",".join(("noudev", f"mount_timeout={_CONNECT_TIMEOUT_S}", *words))]
            argv += ["--read-only"] if attachment.read_only else []
            return commands.run(argv, timeout_s=_MAP_TIMEOUT_S, pass_fds=(key, lock), ok=None)
        except commands.CommandTimeout as late:
            raise ClusterTimeout(f"mapping image {attachment.spec} took more than {_MAP_TIMEOUT_S:g} s") from late
        finally:
            os.close(key)

    def _unmap(self, image: MappedImage, words: Sequence[str], lock: int) -> None:
        """Raises DeviceTrouble that names who holds the device, when that does not end."""
        argv = [
            PROGRAM,
            "device",
            "unmap",
            str(image.device.path),
            "--conf",
            "/dev/null",
            "--options",
            ",".join(("noudev", *words)),
        ]
        deadline = time.monotonic() + _BUSY_PATIENCE_S
        while True:
            ended = commands.run(argv, timeout_s=_UNMAP_TIMEOUT_S, pass_fds=(lock,), ok=None)
            if not ended.code or image.number not in {one.number for one in self._devices.mapped()}:
                return
            if ended.code != errno.EBUSY:
                raise commands.CommandFailed(argv, ended)
            if time.monotonic() > deadline:
                who = "; ".join(holders(image.device.number)) or "nobody that this process can see"
                raise DeviceTrouble(f"{image.device.path} of image {image.spec} is still in use: {who}")
            time.sleep(_POLL_S)


def _is_other_network(proc: Path) -> bool:
    """Compared with process 1, which is the host's where process ids are; elsewhere nothing is known."""
    try:
        return (proc / "self/ns/net").readlink() != (proc / "1/ns/net").readlink()
    except OSError:
        return False


def meaning(ended: commands.Completed, attachment: Attachment, address: ImageAddress) -> DriverError:
    """The rbd tool ends with the errno of what failed, and says which call that was."""
    said = " / ".join(line for line in ended.stderr.splitlines() if line.startswith("rbd: "))[-400:]
    what, user = f"image {attachment.spec}", f"user client.{address.credentials.user}"
    if "couldn't connect" in said:
        if ended.code == 110:
            return ClusterUnavailable(f"no monitor of {', '.join(address.monitors)} answers: {said}")
        return Unauthenticated(f"the cluster does not accept {user} and its key: {said}")
    meanings: dict[int, tuple[type[DriverError], str]] = {
        1: (AccessDenied, f"{user} may not open {what}"),
        2: (NotFound, f"{what} does not exist"),
        6: (InUse, f"the kernel does not know a feature of {what}"),
        13: (AccessDenied, f"{user} may not open {what}"),
        22: (InvalidRequest, f"mapOptions: the kernel refuses to map {what}"),
        110: (ClusterTimeout, f"{what} could not be mapped in time"),
    }
    kind, text = meanings.get(ended.code, (DeviceTrouble, f"{what} could not be mapped (code {ended.code})"))
    return kind(f"{text}: {said}")
