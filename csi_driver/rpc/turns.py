"""Turns to begin: of many calls at once a few go ahead, in the order in which they came.

All at once would share the processors and the interpreter, so that none of them, and no Probe, is answered soon
(docs/decisions/0045). What has not ended after a moment waits for Ceph, and gives its turn to the next.
"""

import threading
import time
from collections import deque

_AT_ONCE = 8
_MOMENT_S = 0.1


class Turns:
    """at_once: how many have begun within the last `moment_s` and not ended."""

    def __init__(self, at_once: int = _AT_ONCE, moment_s: float = _MOMENT_S) -> None:
        self._at_once = at_once
        self._moment_s = moment_s
        self._guard = threading.Lock()
        self._begun: dict[object, float] = {}
        """Each turn that is taken, the oldest first, and when that was."""
        self._waiting: deque[threading.Event] = deque()

    def take(self, timeout_s: float | None) -> object | None:
        """A turn, to be given back; None when the time is over before. Without a timeout it waits for as long as it takes."""
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        woken = threading.Event()
        with self._guard:
            self._waiting.append(woken)
        try:
            while True:
                with self._guard:
                    now = time.monotonic()
                    is_first = self._waiting[0] is woken
                    if is_first and self._has_room(now):
                        turn = object()
                        self._begun[turn] = now
                        return turn
                    if ends is not None and now >= ends:
                        return None
                    pause = None if ends is None else ends - now
                    if is_first:
                        over = next(iter(self._begun.values())) + self._moment_s - now
                        pause = over if pause is None else min(pause, over)
                woken.wait(pause)
                woken.clear()
        finally:
            with self._guard:
                self._waiting.remove(woken)
                self._wake_first()

    def give_back(self, turn: object) -> None:
        with self._guard:
            self._begun.pop(turn, None)
            self._wake_first()

    def _has_room(self, now: float) -> bool:
        while self._begun and (oldest := next(iter(self._begun.items())))[1] + self._moment_s <= now:
            del self._begun[oldest[0]]
        return len(self._begun) < self._at_once

    def _wake_first(self) -> None:
        if self._waiting:
            self._waiting[0].set()
