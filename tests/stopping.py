"""Processes that stand still.

SIGSTOP is no more than asked for when `kill` returns: the threads of a process run on until one of them has taken it, which
on a busy machine is long enough for an answer to get out.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_STANDS_WITHIN_S = 60


def stop(pid: int) -> None:
    """Returns when no thread of the process runs."""
    os.kill(pid, signal.SIGSTOP)
    await_stop(pid, _STANDS_WITHIN_S)


def resume(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    try:
        stop(pid)
        yield
    finally:
        resume(pid)


def await_stop(pid: int, timeout_s: float) -> None:
    """Whoever stops it."""
    deadline = time.monotonic() + timeout_s
    while (states := _states(pid)) != {"T"}:
        assert "Z" not in states, f"process {pid} ended and did not stop"
        assert time.monotonic() < deadline, f"process {pid} did not stop"
        time.sleep(0.002)


def _states(pid: int) -> set[str]:
    """Of its threads, as proc(5) has them: T stopped, Z ended."""
    states = set[str]()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            states.add((thread / "stat").read_text().rpartition(") ")[2][0])
    return states
