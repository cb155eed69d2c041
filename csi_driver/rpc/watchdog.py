"""Names the calls whose work goes on long after their answer: one warning each time their age has doubled."""

import threading
from collections.abc import Callable

import structlog

from csi_driver.tracing import Call

log = structlog.get_logger(__name__)

_EVERY_S = 5.0


class Watchdog:
    """Looks at the calls behind the gates. limit_s: the age from which on a call is named."""

    def __init__(self, calls: Callable[[], dict[Call, str]], limit_s: float) -> None:
        self._calls = calls
        self._limit_s = limit_s
        self._named_at: dict[Call, float] = {}
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def look(self) -> None:
        """Once."""
        here = self._calls()
        self._named_at = {call: age for call, age in self._named_at.items() if call in here}
        for call, gate in here.items():
            age_s = call.age_s
            if age_s >= max(self._limit_s, 2 * self._named_at.get(call, 0.0)):
                self._named_at[call] = age_s
                log.warning("a call takes long", gate=gate, of=call.subject, doing=call.describe())

    def _watch(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            self.look()
