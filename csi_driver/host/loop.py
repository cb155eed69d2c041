"""Loop devices: a block device for a file, found again by that file.

A loop device is taken for the file's only when the kernel says both: the path it was made from, and the file system and
inode it holds open. Paths alone can be another mount's after a restart, numbers alone another device's after a reboot.

Persisted: `loop`, beside the file, with the device's name and its sequence number, which the kernel gives once per boot
and use of a device. It is for one case: the mount namespace that the file was opened in is gone, with a pod and then its
daemon, and the kernel cannot name the file any more ("/"). Such a device is dead and is only ever detached.
"""

import fcntl
import os
import struct
import time
from pathlib import Path

from csi_driver.errors import DeviceTrouble
from csi_driver.host import commands
from csi_driver.host.api import Device
from csi_driver.host.bounded import bounded

_LOOP_GET_STATUS64 = 0x4C05
_STATUS_BYTES = 232  # struct loop_info64 of linux/loop.h, which begins with the file's device and inode
_TIMEOUT_S = 10.0
_POLL_S = 0.02


def find(file: Path) -> list[Device]:
    """The loop devices made from this path; whether they hold this very file is for `holds` to say."""
    return [device for device, backing in _all() if backing.removesuffix(" (deleted)") == str(file)]


def _all() -> list[tuple[Device, str]]:
    """The loop devices in use, and what sysfs calls their files. Touches neither device nor file."""
    found = []
    for entry in sorted(Path("/sys/block").glob("loop*")):
        try:
            backing = (entry / "loop/backing_file").read_text(encoding="utf-8").rstrip("\n")
            number = (entry / "dev").read_text(encoding="ascii").strip()
            sectors = int((entry / "size").read_text(encoding="ascii"))
        except OSError:  # free, or being freed
            continue
        found.append((Device(Path("/dev") / entry.name, number, sectors * 512), backing))
    return found


def _orphans(file: Path) -> list[Device]:
    """The device of the note, when its file has no name any more."""
    try:
        noted = _note(file).read_text(encoding="ascii")
    except FileNotFoundError:
        return []
    return [device for device, backing in _all() if backing == "/" and _identity(device) == noted]


def _note(file: Path) -> Path:
    return file.with_name("loop")


def _identity(device: Device) -> str:
    sequence = Path(f"/sys/block/{device.path.name}/diskseq").read_text(encoding="ascii").strip()
    return f"{device.path.name} {sequence}\n"


def holds(device: Device, file: Path) -> bool:
    """Whether the device has this file open. Asks the file's file system, so that it may raise DeviceTrouble."""

    def look() -> bool:
        descriptor = os.open(device.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_STATUS_BYTES))
        finally:
            os.close(descriptor)
        file_system, inode = struct.unpack_from("=QQ", status)
        wanted = file.stat()
        return (file_system, inode) == (wanted.st_dev, wanted.st_ino)

    try:
        return bounded(f"look at {device.path} for {file}", look, _TIMEOUT_S)
    except OSError:  # free meanwhile, or the file's daemon is dead
        return False


def attach(file: Path, *, read_only: bool) -> Device:
    """A new loop device for the file, which bypasses the page cache of the file itself."""
    flags = ["--read-only"] if read_only else []
    result = commands.run(["losetup", "--direct-io=on", *flags, "--find", "--show", str(file)], timeout_s=_TIMEOUT_S)
    path = Path(result.stdout.strip())
    for device in find(file):
        if device.path == path:
            _note(file).write_text(_identity(device), encoding="ascii")
            return device
    raise DeviceTrouble(f"{path} was made for {file} and is gone again")


def refresh_size(device: Device) -> None:
    """Let the device take over the size of its file."""
    commands.run(["losetup", "--set-capacity", str(device.path)], timeout_s=_TIMEOUT_S)


def detach(file: Path) -> None:
    """No loop device is made from this path afterwards. Raises DeviceTrouble while one is open somewhere.

    The kernel detaches an open device only when it is closed at last; until then the daemon behind it must live.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    for device in (*find(file), *_orphans(file)):
        commands.run(["losetup", "--detach", str(device.path)], timeout_s=_TIMEOUT_S, ok=None)
    while left := find(file) + _orphans(file):
        if time.monotonic() > deadline:
            raise DeviceTrouble(f"{left[0].path} of {file} is still open: mounted elsewhere, or used by a program")
        time.sleep(_POLL_S)
