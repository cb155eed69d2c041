"""The daemons of a cluster: started, found again, and ended, each known by its program, its id and the conf it was given.

The process table is the only truth: a pid file may be stale or missing, and a pid may have been given to another
program. A daemon is told to end through a pidfd that was opened before its command line was read, so that the signal
reaches that process or none.
"""

import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TERM_S = 30.0
_KILL_S = 10.0


@dataclass(frozen=True)
class Daemon:
    """One daemon of a cluster: `ceph-osd -i 0` is osd.0."""

    kind: str
    id: str

    @property
    def name(self) -> str:
        return f"{self.kind}.{self.id}"

    @property
    def program(self) -> str:
        return f"ceph-{self.kind}"

    def argv(self, conf: Path) -> tuple[str, ...]:
        return (self.program, "-c", str(conf), "-i", self.id)


MON = Daemon("mon", "a")
MGR = Daemon("mgr", "x")


def osd_daemons(count: int) -> tuple[Daemon, ...]:
    return tuple(Daemon("osd", str(i)) for i in range(count))


@dataclass(frozen=True)
class Running:
    """A process that is a daemon of the cluster."""

    daemon: Daemon
    pid: int


def running(conf: Path) -> list[Running]:
    """Every process of this machine that is a daemon started with this conf."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    found = [Running(daemon, pid) for pid in pids if (daemon := _daemon_of(pid, conf))]
    return sorted(found, key=lambda one: (one.daemon.name, one.pid))


def stop(conf: Path, kinds: Sequence[str]) -> list[Running]:
    """End the cluster's daemons of these kinds and wait until they have; those that do not heed are killed."""
    victims = [one for one in running(conf) if one.daemon.kind in kinds]
    for chosen, wait_s in ((signal.SIGTERM, _TERM_S), (signal.SIGKILL, _KILL_S)):
        pidfds = [fd for one in victims for fd in _signalled(one, conf, chosen)]
        _wait_for_exit(pidfds, wait_s)
    return victims


def _daemon_of(pid: int, conf: Path) -> Daemon | None:
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return None
    kind = argv[0].rpartition("/")[2].removeprefix("ceph-") if argv else ""
    if kind not in ("mon", "mgr", "osd") or str(conf) not in argv or "-i" not in argv[:-1]:
        return None
    return Daemon(kind, argv[argv.index("-i") + 1])


def _signalled(one: Running, conf: Path, chosen: signal.Signals) -> Iterator[int]:
    """The pidfd of the process if it still is this daemon, the signal sent."""
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(one.pid)
        if _daemon_of(one.pid, conf) == one.daemon:
            signal.pidfd_send_signal(pidfd, chosen)
            yield pidfd
        else:
            os.close(pidfd)


def _wait_for_exit(pidfds: Sequence[int], wait_s: float) -> None:
    """A pidfd becomes readable when its process ends. Closes them all."""
    waiting = select.poll()
    for fd in pidfds:
        waiting.register(fd, select.POLLIN)
    left, deadline = set(pidfds), time.monotonic() + wait_s
    while left and (remaining_s := deadline - time.monotonic()) > 0:
        for fd, _ in waiting.poll(remaining_s * 1000):
            waiting.unregister(fd)
            left.discard(fd)
    for fd in pidfds:
        os.close(fd)
