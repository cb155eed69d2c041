"""Per-name locks of one process: order, cheap answers and good messages. The guarantee between processes is the journal's.

A call takes all its keys at once or none, and never waits: the sidecars repeat a call that was answered `Busy`.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from csi_driver import tracing
from csi_driver.errors import Busy
from csi_driver.tracing import Call


class KeyedLocks:
    """Locks by key, exclusive or shared."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._exclusive: dict[str, Call] = {}
        self._shared: dict[str, list[Call]] = {}

    def held_seconds(self) -> list[float]:
        """How long each call that holds a lock has been under way."""
        now = time.monotonic()
        with self._guard:
            holders = {*self._exclusive.values(), *(call for calls in self._shared.values() for call in calls)}
        return [now - call.started for call in holders]

    @contextmanager
    def hold(self, *keys: str, shared: Sequence[str] = ()) -> Iterator[None]:
        """Hold `keys` alone and `shared` together with others that share them; released on exit.

        Raises Busy, which says who holds which key, for how long and in which phase.
        """
        call = tracing.current() or Call("a task without a call")
        with self._guard:
            for key in (*keys, *shared):
                if holder := self._exclusive.get(key):
                    raise Busy(f"{key} is being worked on by {holder.describe()}; repeat the call")
            for key in keys:
                if sharers := self._shared.get(key):
                    raise Busy(f"{key} is being used by {sharers[0].describe()}; repeat the call")
            for key in keys:
                self._exclusive[key] = call
            for key in shared:
                self._shared.setdefault(key, []).append(call)
        try:
            yield
        finally:
            with self._guard:
                for key in keys:
                    del self._exclusive[key]
                for key in shared:
                    self._shared[key].remove(call)
                    if not self._shared[key]:
                        del self._shared[key]
