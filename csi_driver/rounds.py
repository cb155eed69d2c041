"""Something that is looked at again and again, on a thread of its own, for as long as the driver runs."""

import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

_AFTER_FAULT_S = 10.0


class Rounds:
    """look: one round, and the seconds until the next. What it raises is logged, and the next comes all the same."""

    def __init__(self, name: str, look: Callable[[], float], *, first_after_s: float = 0.0) -> None:
        self._name = name
        self._look = look
        self._first_after_s = first_after_s
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def stop(self) -> None:
        """No round begins any more; does not wait for one that has begun."""
        self._stopping.set()

    def _run(self) -> None:
        pause_s = self._first_after_s
        while not self._stopping.wait(pause_s):
            try:
                pause_s = self._look()
            except Exception:
                log.exception("a round failed", of=self._name)
                pause_s = _AFTER_FAULT_S
