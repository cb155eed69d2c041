"""Bodies that take turns: one runs until it gives its turn to another, so that a schedule alone decides the order.

They are greenlets, in one thread: threads that hand a lock to each other took a tenth more time.
"""

from collections.abc import Callable, Sequence

from greenlet import getcurrent, greenlet


class Turns:
    """A few bodies, and whose turn it is."""

    def __init__(self) -> None:
        self._seats: list[greenlet] = []
        self.present: list[int] = []
        """Those that have not come to their end, in order."""
        self.whose: int | None = None

    def run(self, bodies: Sequence[Callable[[], None]], first: int) -> None:
        """Until all have come to their end. A body raises nothing."""
        here = getcurrent()
        self._seats = [greenlet(body, here) for body in bodies]
        self.present = list(range(len(bodies)))
        self.whose = first
        while self.whose is not None:
            self._seats[self.whose].switch()
            self._leave(self.whose)

    def give(self, to: int) -> None:
        """By the one whose turn it is; returns when it has it again."""
        if to != self.whose:
            self.whose = to
            self._seats[to].switch()

    def others(self) -> list[int]:
        """Those that one may be given to, the next one first."""
        here = self.whose
        return (
            []
            if here is None
            else sorted(one for one in self.present if one != here and one > here)
            + [one for one in self.present if one < here]
        )

    def _leave(self, number: int) -> None:
        """The one whose turn it is has come to its end: it is another's."""
        self.present.remove(number)
        self.whose = self.present[number % len(self.present)] if self.present else None


class TurnLock:
    """In place of threading.Lock where a call to Ceph is made under it: who must wait gives its turn away."""

    turns: Turns | None = None

    def __init__(self) -> None:
        self._is_held = False

    def __enter__(self) -> None:
        while self._is_held:
            assert self.turns
            others = self.turns.others()
            assert others, "whoever holds the lock has come to its end"
            self.turns.give(others[0])
        self._is_held = True

    def __exit__(self, *_: object) -> None:
        self._is_held = False
