"""Who keeps a block device from being given back, for messages. Reads /proc and /sys alone, so that it never hangs."""

import os
from collections.abc import Collection
from pathlib import Path

_MOST_NAMED = 5


def holders(
    number: str, proc: Path = Path("/proc"), sys: Path = Path("/sys"), *, servers: Collection[int] = ()
) -> list[str]:
    """Of the device major:minor: devices on top of it, mounts in any mount namespace, processes that have it open.

    servers: ids of the processes that the device is served by, which do not count.
    """
    found = _devices_above(number, sys)
    found += _processes(number, proc, servers)
    if len(found) > _MOST_NAMED:
        found = [*found[:_MOST_NAMED], f"and {len(found) - _MOST_NAMED} more"]
    return found


def _devices_above(number: str, sys: Path) -> list[str]:
    above = sorted((sys / "dev/block" / number / "holders").glob("*"))
    return [f"device {_mapper_name(holder)}" for holder in above]


def _mapper_name(holder: Path) -> str:
    try:
        return (holder / "dm/name").read_text(encoding="utf-8").strip()
    except OSError:
        return holder.name


def _processes(number: str, proc: Path, servers: Collection[int]) -> list[str]:
    """One line per mount namespace that has it mounted, and one per process that has the device open."""
    found, seen = [], set()
    for entry in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)):
        who = f"process {entry.name} ({_name(entry)})"
        namespace = _link(entry / "ns/mnt")
        if namespace and namespace not in seen:
            seen.add(namespace)
            found += [f"mount {target} as {who} sees it" for target in _mounts(entry, number)]
        if int(entry.name) in servers:
            continue
        if any(_is_device(descriptor, number) for descriptor in _descriptors(entry)):
            found.append(who)
    return found


def _mounts(entry: Path, number: str) -> list[str]:
    try:
        lines = (entry / "mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [words[4] for words in map(str.split, lines) if words[2] == number]


def _descriptors(entry: Path) -> list[Path]:
    try:
        return list((entry / "fd").iterdir())
    except OSError:
        return []


def _is_device(descriptor: Path, number: str) -> bool:
    """Looks at device files alone: a look at a file of a hung file system may not come back."""
    target = _link(descriptor)
    if not target.startswith("/dev/"):
        return False
    try:
        status = descriptor.stat()
    except OSError:
        return False
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" == number


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _name(entry: Path) -> str:
    try:
        return (entry / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"
