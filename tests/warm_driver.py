"""A driver that starts at once: each of its processes is forked from one that has imported everything.

`python -m tests.warm_driver serve ...` imports what `serve` does; for each line on stdin, which holds fail points, it forks a
process that is the driver, and tells its pid and in the end its exit code, a line each. For tests that kill a driver hundreds
of times; what is tested begins after the imports.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from csi_driver import failpoints
from tests.driver import CRASHES, START_TIMEOUT_S, DriverMisbehaved, DriverProcess

_LINE = 4096


@dataclass
class _Forked:
    """A process whose parent reports its end, to one thread."""

    pid: int
    reports: IO[bytes]
    code: int | None = None

    def poll(self) -> int | None:
        if self.code is None and select.select([self.reports], [], [], 0)[0]:
            self.code = int(self.reports.readline())
        return self.code

    def wait(self, timeout: float | None = None) -> int:
        if self.code is None:
            if not select.select([self.reports], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("the driver", timeout or 0)
            self.code = int(self.reports.readline())
        return self.code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class WarmDriver(DriverProcess):
    """A DriverProcess whose starts cost no imports but once."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        super().__init__(arguments, environment, prefix)
        command = ["tests.warm_driver" if word == "csi_driver" else word for word in self._command]
        with self.log.open("ab") as log:
            self._parent = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0
            )

    def restart(self, environment: Mapping[str, str] | None = None, *, ready_within_s: float = START_TIMEOUT_S) -> None:
        """As that of a DriverProcess; of the environment only the fail points are told.

        It may have died at one of them when this returns.
        """
        assert self._process is None, "the driver runs already"
        assert self._parent.stdin
        assert self._parent.stdout
        armed = (environment or {}).get(failpoints.VARIABLE, "")
        self._parent.stdin.write(f"{armed}\n".encode())
        self._process = _Forked(int(self._parent.stdout.readline()), self._parent.stdout)
        deadline = time.monotonic() + ready_within_s
        while not self.has_died() and not self.rpc.is_ready(timeout_s=0.5):
            if time.monotonic() > deadline:
                raise DriverMisbehaved(f"the driver was not ready after {ready_within_s} s\n{self.log_tail()}")
            time.sleep(0.01)

    def is_revived(self, since: int) -> bool:
        """Never: who has it killed starts it again, and a caller that looked as well would take the report of its end."""
        return False

    def has_died(self) -> bool:
        """Whether the process has killed itself, or librbd has; another may be started then.

        Raises DriverMisbehaved: it ended otherwise, or librbd ended a second one in these tests.
        """
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            if code in CRASHES:
                self._count_crash()
            elif code != -signal.SIGKILL:
                raise DriverMisbehaved(f"the driver ended with {code}\n{self.log_tail()}")
        return self._process is None

    def remove(self) -> None:
        if self._process is not None:
            self.kill()
        self._parent.communicate()  # the end of its input is its end
        super().remove()


def main() -> None:
    from csi_driver import __main__ as program  # noqa: PLC0415 - here is where it warms up
    from csi_driver.cli import assembly, serve  # noqa: F401, PLC0415
    from csi_driver.rpc import socket  # noqa: F401, PLC0415

    while armed := os.read(sys.stdin.fileno(), _LINE):  # whoever writes one waits for its answer
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
            os.environ[failpoints.VARIABLE] = armed.decode().strip()
            program.main()
        os.write(sys.stdout.fileno(), f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(sys.stdout.fileno(), f"{os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    main()
