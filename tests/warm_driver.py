"""A driver that starts at once: the next process waits with everything imported while the current one serves.

`python -m tests.warm_driver serve ...` imports what `serve` does, waits for a line on stdin, which holds its fail points, and
then is the driver. For tests that kill it hundreds of times; what is tested begins after the imports.
"""

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

from csi_driver import failpoints
from tests.driver import START_TIMEOUT_S, DriverMisbehaved, DriverProcess


class WarmDriver(DriverProcess):
    """A DriverProcess whose successor waits already."""

    def __init__(
        self, arguments: "Sequence[str]", environment: "Mapping[str, str]", prefix: "Sequence[str]" = ()
    ) -> None:
        super().__init__(arguments, environment, prefix)
        self._command = tuple("tests.warm_driver" if word == "csi_driver" else word for word in self._command)
        self._spare: subprocess.Popen[bytes] | None = None

    def restart(
        self, environment: "Mapping[str, str] | None" = None, *, ready_within_s: float = START_TIMEOUT_S
    ) -> None:
        """As that of a DriverProcess; of the environment only the fail points are told to the waiting one.

        It may have died at one of them when this returns.
        """
        assert self._process is None, "the driver runs already"
        armed = (environment or {}).get(failpoints.VARIABLE, "")
        self._process = self._spare or self._warm()
        assert self._process.stdin
        self._process.stdin.write(f"{armed}\n".encode())
        self._process.stdin.close()
        self._spare = self._warm()
        deadline = time.monotonic() + ready_within_s
        while not self.has_died() and not self.rpc.is_ready(timeout_s=0.5):
            if time.monotonic() > deadline:
                raise DriverMisbehaved(f"the driver was not ready after {ready_within_s} s\n{self.log_tail()}")
            time.sleep(0.01)

    def has_died(self) -> bool:
        """Whether the process has killed itself; another may be started then. Raises DriverMisbehaved: it ended otherwise."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            if code != -signal.SIGKILL:
                raise DriverMisbehaved(f"the driver ended with {code}\n{self.log_tail()}")
        return self._process is None

    def remove(self) -> None:
        if self._spare is not None:
            self._spare.kill()
            self._spare.communicate()
        super().remove()

    def _warm(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            return subprocess.Popen(self._command, env=self._environment, stdin=subprocess.PIPE, stdout=log, stderr=log)


def main() -> None:
    from csi_driver import __main__ as program  # noqa: PLC0415 - here is where it warms up
    from csi_driver.cli import assembly, serve  # noqa: F401, PLC0415
    from csi_driver.rpc import socket  # noqa: F401, PLC0415

    os.environ[failpoints.VARIABLE] = sys.stdin.readline().strip()
    program.main()


if __name__ == "__main__":
    main()
