"""What a bed takes of the machine, and gives back: one bed at a time, and what a killed one left is cleared away first.

The kubelet's directory, the pods' cgroups and networks exist once on a machine. The lock is held while a bed is; every
process of a bed has its directory in its environment, by which those of a bed that was killed are found.
"""

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

_LOCK = Path("/run/lock/rbd-csi-e2e")
MARK = "RBD_CSI_BED"
_NAMESPACES = Path("/run/netns")
_CGROUPS = ("kubepods", "k8s.io")


class MachineTaken(AssertionError):
    """Another bed has the machine."""


@dataclass(frozen=True)
class Taken:
    """A bed as the lock's file tells of it, and the networks that were there before it."""

    directory: Path
    networks: frozenset[str]


@contextmanager
def held(directory: Path, wait_s: int, clear: Callable[[Taken], None]) -> Iterator[Taken]:
    """For a bed in this directory. clear: is given one that was killed. Raises MachineTaken when another still runs then."""
    with _LOCK.open("a+") as lock:
        if subprocess.run(["flock", "--wait", str(wait_s), "0"], stdin=lock, check=False).returncode:
            raise MachineTaken(f"another Kubernetes of this kind has run here for {wait_s} s ({_LOCK})")
        lock.seek(0)
        if text := lock.read():
            left = json.loads(text)
            clear(Taken(Path(left["directory"]), frozenset(left["networks"])))
        taken = Taken(directory, _networks())
        _write(lock, json.dumps({"directory": str(directory), "networks": sorted(taken.networks)}))
        try:
            yield taken
        finally:
            _write(lock, "")
            fcntl.flock(lock, fcntl.LOCK_UN)  # processes that were started meanwhile may have the file, too


def _write(file: TextIO, text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


@contextmanager
def addresses(*wanted: str) -> Iterator[None]:
    """Addresses on the loopback interface: pods, which have loopbacks of their own, reach them through the machine."""
    for address in wanted:
        subprocess.run(["ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True)
    try:
        yield
    finally:
        for address in wanted:
            subprocess.run(["ip", "address", "delete", f"{address}/32", "dev", "lo"], check=False)


def _networks() -> frozenset[str]:
    return frozenset(path.name for path in _NAMESPACES.glob("cni-*"))


def end_pods(taken: Taken) -> None:
    """Kill what runs in the pods' cgroups, and remove the pods' networks."""
    for cgroup in _pod_cgroups():
        with suppress(OSError):
            for pid in (cgroup / "cgroup.procs").read_text().split():
                _kill(int(pid))
    for name in _networks() - taken.networks:
        subprocess.run(["ip", "netns", "delete", name], check=False)


def remove_cgroups() -> None:
    for cgroup in sorted(_pod_cgroups(), key=lambda path: -len(path.parts)):
        with suppress(OSError):  # in use by what is not ours
            cgroup.rmdir()


def end_marked(taken: Taken) -> None:
    """The processes of a bed, and what they started: containerd's shims outlive it."""
    mark = f"{MARK}={taken.directory}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environment.read_bytes().split(b"\0"):
                _kill(int(environment.parent.name))


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _pod_cgroups() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    return [
        one for name in _CGROUPS for top in root.glob(f"**/{name}*") for one in (top, *top.rglob("*")) if one.is_dir()
    ]
