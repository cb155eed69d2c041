"""The mount table of this process (/proc/self/mountinfo), and mount, bind and umount as programs bounded in time.

The table is read from the kernel each time and never touches a mounted file system, so that a hung one hurts only
itself. Nothing is persisted here. In a container the paths of the kubelet must be mounted with bidirectional propagation.
"""

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from csi_driver.errors import DeviceTrouble, NotFound
from csi_driver.host import commands
from csi_driver.host.api import Mount, MountRefused
from csi_driver.tracing import step

_MOUNT_TIMEOUT_S = 90.0  # replaying a large journal takes its time
_UNMOUNT_TIMEOUT_S = 60.0  # writes back what is dirty
_STACKED_AT_MOST = 16


def parse_table(text: str) -> list[Mount]:
    """The lines of mountinfo (proc(5)): id parent major:minor root target options [tags] - type source super-options."""
    mounts = []
    for line in text.splitlines():
        front, _, back = line.partition(" - ")
        _id, _parent, device, root, target, options = front.split(" ")[:6]
        fs_type, _source, super_options = [*back.split(" "), "", ""][:3]
        read_only = "ro" in options.split(",") or "ro" in super_options.split(",")
        mounts.append(Mount(device, _plain(root), Path(_plain(target)), fs_type, read_only))
    return mounts


def _plain(text: str) -> str:
    """mountinfo writes blank, tab, newline and backslash as three octal digits of each byte."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


class LocalMounts:
    """Mounts of this machine (host.api.Mounts)."""

    def table(self) -> list[Mount]:
        return parse_table(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))

    def block_number(self, mount: Mount) -> str:
        if mount.root != "/" and mount.fs_type in ("devtmpfs", "tmpfs"):  # a look that cannot hang
            status = mount.target.lstat()
            if stat.S_ISBLK(status.st_mode):
                return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        return mount.device

    def device_size_bytes(self, number: str) -> int:
        try:
            return int(Path(f"/sys/dev/block/{number}/size").read_text(encoding="ascii")) * 512
        except FileNotFoundError as missing:
            raise NotFound(f"block device {number} is gone") from missing

    def mount(self, device: Path, target: Path, fs_type: str, options: Sequence[str]) -> None:
        argv = ["mount", "-t", fs_type, "-o", ",".join(options), str(device), str(target)]
        result = commands.run(argv, timeout_s=_MOUNT_TIMEOUT_S, ok=None)
        if result.code:
            raise MountRefused(" ".join(result.stderr.split()) or f"mount ended with code {result.code}")

    def bind(self, source: Path, target: Path, *, read_only: bool) -> None:
        if not self._is_mounted(target):
            commands.run(["mount", "--bind", str(source), str(target)], timeout_s=_MOUNT_TIMEOUT_S)
        if read_only:
            with step("mounts.read_only", str(target)):
                commands.run(["mount", "-o", "remount,bind,ro", str(target)], timeout_s=_MOUNT_TIMEOUT_S)

    def unmount(self, target: Path) -> None:
        for _ in range(_STACKED_AT_MOST):
            if not self._is_mounted(target):
                return
            result = commands.run(["umount", "-c", str(target)], timeout_s=_UNMOUNT_TIMEOUT_S, ok=None)
            if result.code and self._is_mounted(target):
                raise DeviceTrouble(f"cannot unmount {target}: {' '.join(result.stderr.split())}")
        raise DeviceTrouble(f"cannot unmount {target}: more than {_STACKED_AT_MOST} mounts lie there")

    def _is_mounted(self, target: Path) -> bool:
        return any(mount.target == target for mount in self.table())
