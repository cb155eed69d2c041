"""Names the calls whose work goes on long after their answer: one warning each time their age has doubled."""

from collections.abc import Callable

import structlog

from csi_driver.rounds import Rounds
from csi_driver.tracing import Call

log = structlog.get_logger(__name__)

_EVERY_S = 5.0


class Watchdog:
    """Looks at the calls behind the gates. limit_s: the age from which on a call is named."""

    def __init__(self, calls: Callable[[], dict[Call, str]], limit_s: float) -> None:
        self._calls = calls
        self._limit_s = limit_s
        self._named_at: dict[Call, float] = {}
        self.rounds = Rounds("watchdog", self._watch, first_after_s=_EVERY_S)

    def look(self) -> None:
        """Once."""
        here = self._calls()
        self._named_at = {call: age for call, age in self._named_at.items() if call in here}
        for call, gate in here.items():
            age_s = call.age_s
            if age_s >= max(self._limit_s, 2 * self._named_at.get(call, 0.0)):
                self._named_at[call] = age_s
                log.warning("a call takes long", gate=gate, of=call.subject, doing=call.describe())

    def _watch(self) -> float:
        self.look()
        return _EVERY_S
