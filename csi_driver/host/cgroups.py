"""Takes a process out of the cgroup of whoever started it, so that the end of that cgroup (a pod's) does not end it.

Best effort: where the hierarchy cannot be written, the process stays and a warning says what that means. A container must
see the machine's cgroup hierarchy for this (privileged, host's cgroup namespace) and its process ids (hostPID).
"""

from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


def leave(pid: int) -> None:
    """Move all threads of `pid` to the root of each hierarchy, version 1 or 2, that has it elsewhere."""
    roots = _roots()
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines():
        _number, controllers, path = line.split(":", 2)
        root = roots.get(controllers)
        if path == "/" or root is None:
            continue
        try:
            (root / "cgroup.procs").write_text(f"{pid}\n", encoding="ascii")
        except OSError as refused:
            log.warning(
                "the storage daemon stays in this process's cgroup: if that is ended, mounts are lost",
                pid=pid,
                hierarchy=str(root),
                reason=str(refused),
            )


def unified_root() -> Path | None:
    """Where the hierarchy of version 2 is mounted."""
    return _roots().get("")


def _roots() -> dict[str, Path]:
    """Mount point of each hierarchy, by the controllers as /proc/PID/cgroup writes them ("" for version 2)."""
    roots: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        front, _, back = line.partition(" - ")
        fs_type, _source, options = back.split(" ")[:3]
        if fs_type not in ("cgroup", "cgroup2"):
            continue
        target = Path(front.split(" ")[4])
        if fs_type == "cgroup2":
            roots.setdefault("", target)
        else:
            flags = ("rw", "ro", "xattr", "noprefix", "clone_children")
            controllers = [word for word in options.split(",") if word not in flags and "release_agent" not in word]
            roots.setdefault(",".join(controllers), target)
    return roots
