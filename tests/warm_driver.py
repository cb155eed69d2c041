"""A driver that may be killed hundreds of times: its starts cost no imports."""

import signal
import time
from collections.abc import Mapping

from tests import warm_starts
from tests.driver import CRASHES, START_TIMEOUT_S, DriverMisbehaved, DriverProcess, Process


class WarmDriver(DriverProcess):
    """A DriverProcess whose processes are forked from one that has imported everything."""

    def begin(self) -> Process:
        assert not self._prefix, f"{self._prefix} cannot be put before a process that is forked"
        return warm_starts.start(self._arguments, self._environment, self.log)


class DyingDriver(WarmDriver):
    """One that fail points kill, at any time."""

    def restart(self, environment: Mapping[str, str] | None = None, *, ready_within_s: float = START_TIMEOUT_S) -> None:
        """As that of a DriverProcess. It may have died at a fail point when this returns."""
        self._begin_with(environment)
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
