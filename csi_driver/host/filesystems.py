"""ext4 and xfs on block devices, with the programs that come with them: identify, format, check, grow, measure.

Decides nothing about whether a device may be formatted (operations/contents.py does); `identify` only says what is there,
and says `BLANK` of nothing but zeros. Nothing is persisted here.
"""

import mmap
import os
import re
from collections.abc import Sequence
from pathlib import Path

from csi_driver.errors import DeviceTrouble, InUse, InvalidRequest
from csi_driver.host import commands
from csi_driver.host.api import Content, Finding, Usage
from csi_driver.host.bounded import bounded

FS_TYPES = ("ext4", "xfs")

_PROBE_TIMEOUT_S = 20.0
_FORMAT_TIMEOUT_S = 180.0
_CHECK_TIMEOUT_S = 600.0
_GROW_TIMEOUT_S = 180.0
_STATS_TIMEOUT_S = 5.0

_HEAD_BYTES, _TAIL_BYTES = 4 << 20, 1 << 20  # where file systems, partition tables and RAID keep their marks
_XFS_MAGIC, _XFS_IN_PROGRESS_AT = b"XFSB", 126  # sb_inprogress: set by mkfs.xfs until it is done, refused by the kernel

_FORMAT_DEFAULTS = {
    "ext4": ("-m0", "-Enodiscard,lazy_itable_init=1,lazy_journal_init=1"),
    "xfs": ("-K", "-m", "reflink=0"),
}
_OVERWRITE = {"ext4": "-F", "xfs": "-f"}

_E2FSCK_CORRECTED = 1 | 2  # bits of its exit code: corrected, and "reboot if it is the root file system"
_E2FSCK_UNCORRECTED = 4
_XFS_REPAIR_DIRTY_LOG = 2
_BLKID_NOTHING, _BLKID_AMBIVALENT = 2, 8
_TRIMMED = re.compile(r"\((\d+) bytes\) trimmed")


class LocalFilesystems:
    """File systems of this machine (host.api.Filesystems)."""

    def identify(self, device: Path) -> Finding:
        head, tail = bounded(f"read {device}", lambda: _read_ends(device), _PROBE_TIMEOUT_S)
        if head[:4] == _XFS_MAGIC and head[_XFS_IN_PROGRESS_AT]:
            return Finding(Content.UNFINISHED, "xfs")
        argv = ["blkid", "-p", "-o", "export", str(device)]
        result = commands.run(argv, timeout_s=_PROBE_TIMEOUT_S, ok=(0, _BLKID_NOTHING, _BLKID_AMBIVALENT))
        if result.code == _BLKID_AMBIVALENT:
            return Finding(Content.FOREIGN, "signatures of several formats")
        tags = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
        if result.code == _BLKID_NOTHING or not {"TYPE", "PTTYPE"} & tags.keys():
            return Finding(Content.BLANK if not (head + tail).strip(b"\0") else Content.UNKNOWN)
        if tags.get("USAGE") == "filesystem" and "PTTYPE" not in tags:
            return Finding(Content.FILE_SYSTEM, tags["TYPE"])
        return Finding(Content.FOREIGN, tags.get("TYPE") or f"{tags['PTTYPE']} partition table")

    def format(self, device: Path, fs_type: str, options: Sequence[str], *, overwrite: bool) -> None:
        words = [*(options or _FORMAT_DEFAULTS[fs_type]), *([_OVERWRITE[fs_type]] if overwrite else [])]
        result = commands.run([f"mkfs.{fs_type}", *words, str(device)], timeout_s=_FORMAT_TIMEOUT_S, ok=None)
        if result.code:
            said = " ".join(result.stderr.split())[-400:]
            if "Input/output error" in said:
                raise DeviceTrouble(f"mkfs.{fs_type} {' '.join(words)} failed: {said}")
            raise InvalidRequest(f"mkfs.{fs_type} does not accept {' '.join(words)!r} on this volume: {said}")

    def check(self, device: Path, fs_type: str) -> None:
        if fs_type != "ext4":  # xfs checks its log when it is mounted
            return
        self._e2fsck(device)

    def _e2fsck(self, device: Path, *flags: str) -> None:
        result = commands.run(["e2fsck", "-p", *flags, str(device)], timeout_s=_CHECK_TIMEOUT_S, ok=None)
        if not result.code & ~_E2FSCK_CORRECTED:
            return
        said = " ".join(result.stdout.split())[-400:] or " ".join(result.stderr.split())[-400:]
        if result.code & _E2FSCK_UNCORRECTED:
            raise InUse(
                f"the ext4 file system on {device} has errors that are not safe to repair unattended (e2fsck -p: {said}); "
                "it was left as it is: repair a copy or a clone by hand with e2fsck"
            )
        raise DeviceTrouble(f"e2fsck on {device} ended with code {result.code}: {said}")

    def explain_refused_mount(self, device: Path, fs_type: str) -> str:
        tool = ["xfs_repair", "-n"] if fs_type == "xfs" else ["e2fsck", "-f", "-n"]
        result = commands.run([*tool, str(device)], timeout_s=_CHECK_TIMEOUT_S, ok=None)
        if fs_type == "xfs" and result.code == _XFS_REPAIR_DIRTY_LOG:
            return "its log is dirty"
        name = " ".join(tool)
        return f"{name} finds errors: repair a copy or a clone by hand" if result.code else f"{name} finds no errors"

    def grow_unmounted(self, device: Path, fs_type: str) -> None:
        if fs_type != "ext4":
            return
        argv = ["resize2fs", str(device)]
        result = commands.run(argv, timeout_s=_GROW_TIMEOUT_S, ok=None)
        if result.code and "e2fsck -f" in result.stdout + result.stderr:  # it insists on a full check first
            self._e2fsck(device, "-f")
            commands.run(argv, timeout_s=_GROW_TIMEOUT_S)
        elif result.code:
            raise commands.CommandFailed(argv, result)

    def grow_mounted(self, device: Path, target: Path, fs_type: str) -> None:
        argv = ["xfs_growfs", "-d", str(target)] if fs_type == "xfs" else ["resize2fs", str(device)]
        result = commands.run(argv, timeout_s=_GROW_TIMEOUT_S, ok=None)
        if not result.code:
            return
        if "ermission denied" in result.stderr or "not permitted" in result.stderr:
            raise InUse(
                f"the {fs_type} file system cannot grow while it is mounted: the kernel demands CAP_SYS_RESOURCE, which this "
                "process lacks; grant it, or stage the volume anew, which grows it before the mount"
            )
        raise commands.CommandFailed(argv, result)

    def probe_device(self, device: Path) -> None:
        try:
            bounded(f"read {device} past its caches", lambda: _read_direct(device), _STATS_TIMEOUT_S)
        except OSError as error:
            raise DeviceTrouble(f"{device} cannot be read: {error.strerror}") from error

    def probe_mounted(self, path: Path) -> None:
        try:
            bounded(f"look into {path}", lambda: _look_into(path), _STATS_TIMEOUT_S)
        except OSError as error:
            raise DeviceTrouble(f"the file system at {path} cannot be read: {error.strerror}") from error

    def trim(self, device: Path | None, target: Path, *, timeout_s: float) -> int:
        if device:
            argv = ["dd", f"if={device}", "iflag=direct", "of=/dev/null", "bs=4096", "count=1", "status=none"]
            try:
                commands.run(argv, timeout_s=_STATS_TIMEOUT_S)
            except commands.CommandTimeout as late:
                raise DeviceTrouble(f"no answer within {_STATS_TIMEOUT_S:g} s: {device}; the device hangs") from late
        said = commands.run(["fstrim", "--verbose", str(target)], timeout_s=timeout_s).stdout
        trimmed = _TRIMMED.search(said)
        if not trimmed:
            raise DeviceTrouble(f"fstrim did not say what it trimmed: {said.strip()!r}")
        return int(trimmed[1])

    def usage(self, path: Path) -> Usage:
        found = bounded(f"statvfs {path}", lambda: os.statvfs(path), _STATS_TIMEOUT_S)
        return Usage(
            total_bytes=found.f_blocks * found.f_frsize,
            used_bytes=(found.f_blocks - found.f_bfree) * found.f_frsize,
            available_bytes=found.f_bavail * found.f_frsize,
            total_inodes=found.f_files,
            used_inodes=found.f_files - found.f_ffree,
            available_inodes=found.f_favail,
        )


def _read_ends(device: Path) -> tuple[bytes, bytes]:
    with device.open("rb", buffering=0) as opened:
        head = opened.read(_HEAD_BYTES)
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - _TAIL_BYTES))
        return head, opened.read(_TAIL_BYTES)


def _read_direct(device: Path) -> None:
    """O_DIRECT takes an aligned buffer alone: pages are."""
    opened = os.open(device, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, mmap.PAGESIZE) as page:
            os.preadv(opened, [page], 0)
    finally:
        os.close(opened)


def _look_into(path: Path) -> None:
    with os.scandir(path) as entries:
        next(entries, None)
