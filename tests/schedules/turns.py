"""Threads that take turns: one runs until it gives its turn to another, so that a schedule alone decides the order."""

import threading
from collections.abc import Callable, Sequence

SEATS = 3


class _Seat:
    """A thread that is kept for the next schedule."""

    def __init__(self, turns: "Turns", number: int) -> None:
        self.turn = threading.Lock()
        self.turn.acquire()
        self.body: Callable[[], None] = lambda: None
        self._turns = turns
        self._number = number
        threading.Thread(target=self._sit, name=f"schedule-{number}", daemon=True).start()

    def _sit(self) -> None:
        while True:
            self.turn.acquire()
            self.body()
            self._turns.left(self._number)


class Turns:
    """A few threads, and whose turn it is."""

    def __init__(self) -> None:
        self._seats = [_Seat(self, number) for number in range(SEATS)]
        self._all_left = threading.Lock()
        self._all_left.acquire()
        self.present: list[int] = []
        """Those that have not come to their end, in order."""
        self.whose: int | None = None

    def run(self, bodies: Sequence[Callable[[], None]], first: int) -> None:
        """Until all have come to their end. A body raises nothing."""
        self.present = list(range(len(bodies)))
        for seat, body in zip(self._seats, bodies, strict=False):
            seat.body = body
        self.whose = first
        self._seats[first].turn.release()
        self._all_left.acquire()

    def give(self, to: int) -> None:
        """By the one whose turn it is; returns when it has it again."""
        here = self.whose
        assert here is not None
        if to == here:
            return
        self.whose = to
        self._seats[to].turn.release()
        self._seats[here].turn.acquire()

    def others(self) -> list[int]:
        """Those that one may be given to, the next one first."""
        here = self.whose
        return (
            []
            if here is None
            else sorted(one for one in self.present if one != here and one > here)
            + [one for one in self.present if one < here]
        )

    def left(self, number: int) -> None:
        self.present.remove(number)
        if not self.present:
            self.whose = None
            self._all_left.release()
            return
        self.whose = self.present[number % len(self.present)]
        self._seats[self.whose].turn.release()


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
