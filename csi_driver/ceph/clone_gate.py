"""Which clones a connection makes at one time.

The bindings of 16.2 and the connection's configuration have one clone format for all calls, so that those of one format
run at once and those of the other wait. Whoever waits is followed by all that come later: no format starves the other.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar


class CloneGate:
    """`choose` sets the format for the clones that begin from then on."""

    INITIAL: ClassVar = "auto"
    """What the connection is made with."""

    def __init__(self, choose: Callable[[str], None]) -> None:
        self._choose = choose
        self._chosen = self.INITIAL
        self._turn = threading.Lock()
        """Held by the one that waits next."""
        self._left = threading.Condition()
        self._running = 0

    @contextmanager
    def hold(self, chosen: str, *, most: int = 0) -> Iterator[None]:
        """While one clone is made; at most so many at once, 0: any number."""
        with self._turn, self._left:
            self._left.wait_for(lambda: self._may_enter(chosen, most))
            if chosen != self._chosen:
                self._choose(chosen)
                self._chosen = chosen
            self._running += 1
        try:
            yield
        finally:
            with self._left:
                self._running -= 1
                self._left.notify_all()

    def _may_enter(self, chosen: str, most: int) -> bool:
        return self._running == 0 or (chosen == self._chosen and not 0 < most <= self._running)
