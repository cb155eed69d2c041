"""Processes of the bed: started in a session of their own, with a log each, and ended in the other order."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

_END_S = 10.0


class BedFailed(AssertionError):
    """A part of the bed did not come up; the message ends with its log."""


class Processes:
    """All of one bed. `programs` comes first in their PATH; `mark`: in their environment."""

    def __init__(self, logs: Path, programs: Path, mark: Mapping[str, str]) -> None:
        self._logs = logs
        self._mark = mark
        self._path = f"{programs}:{os.environ['PATH']}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> None:
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [name, *arguments],
                env={**os.environ, **self._mark, "PATH": self._path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def await_ready(self, name: str, is_ready: Callable[[], bool], seconds: float) -> None:
        """Raises BedFailed when the process ends, or the time is over."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            if self._running[name].poll() is not None or time.monotonic() > deadline:
                raise BedFailed(f"{name} is not ready\n{self.tail(name)}")
            time.sleep(0.2)

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def tail(self, name: str, lines: int = 30) -> str:
        return "\n".join((self._logs / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])

    def end(self, *names: str) -> None:
        """Those named, or all; the last started first."""
        for name in names or reversed(list(self._running)):
            process = self._running.pop(name, None)
            if process is None:
                continue
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
