"""Where Ceph work runs: a bounded gate for each cluster, and an answer in time whatever the work does.

The thread that serves a call waits for its work no longer than the call's deadline. The work then goes on under its locks,
and its end is logged. Calls to one cluster never wait for those of another; beyond the bound a call is refused at once.
"""

import contextvars
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

import structlog

from csi_driver import tracing
from csi_driver.errors import Busy, StillWorking
from csi_driver.rpc.turns import Turns

log = structlog.get_logger(__name__)

T = TypeVar("T")

RUNNING_LIMIT = 64
WAITING_LIMIT = 192


class Gates:
    """One gate per key; a key is a cluster id, or the name of another resource."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._gates: dict[str, _Gate] = {}

    def run(self, key: str, work: Callable[[], T]) -> T:
        """Run `work` on a thread of this gate and wait for it until the call's deadline.

        Raises Busy when the gate is full, StillWorking when the deadline passes while the work goes on.
        """
        with self._guard:
            gate = self._gates.get(key)
            if gate is None:
                gate = self._gates[key] = _Gate(key)
        return gate.run(work)

    def calls(self) -> dict[tracing.Call, str]:
        """The calls that run behind a gate, or wait to, with its key."""
        with self._guard:
            gates = dict(self._gates)
        return {call: key for key, gate in gates.items() for call in gate.calls()}

    def inside(self) -> dict[str, int]:
        """Calls that run behind each gate, or wait to."""
        with self._guard:
            gates = dict(self._gates)
        return {key: len(gate.calls()) for key, gate in gates.items()}

    def await_quiet(self, key: str, quiet_s: float, timeout_s: float) -> bool:
        """Wait until no call has been behind this gate for `quiet_s`; false when that was not so for the time allowed."""
        with self._guard:
            gate = self._gates.get(key)
        return gate is None or gate.await_quiet(quiet_s, timeout_s)

    def drain(self, timeout_s: float) -> bool:
        """Wait for what still runs; whether all of it ended in time."""
        ends = time.monotonic() + timeout_s
        with self._guard:
            gates = list(self._gates.values())
        ended = [gate.drain(ends - time.monotonic()) for gate in gates]
        return all(ended)


class _Gate:
    def __init__(self, key: str) -> None:
        self._key = key
        self._turns = Turns()
        self._pool = ThreadPoolExecutor(RUNNING_LIMIT, thread_name_prefix=f"gate-{key}")
        self._guard = threading.Condition()
        self._inside: set[tracing.Call] = set()
        self._empty_since = time.monotonic()

    def calls(self) -> set[tracing.Call]:
        with self._guard:
            return set(self._inside)

    def run(self, work: Callable[[], T]) -> T:
        call = tracing.current() or tracing.Call("a task without a call")
        self._enter(call)
        turn = self._turns.take(_seconds_left(call))
        if turn is None:
            self._leave(call)
            raise self._no_turn()
        future = self._pool.submit(contextvars.copy_context().run, work)
        future.add_done_callback(lambda _: self._turns.give_back(turn))
        future.add_done_callback(lambda _: self._leave(call))
        try:
            return future.result(_seconds_left(call))
        except FutureTimeout:
            if future.done():
                return future.result()
            if future.cancel():
                raise self._no_turn() from None
            future.add_done_callback(lambda done: _log_late_end(call, done))
            raise StillWorking(f"not finished in time, and goes on: {call.describe()}; repeat the call") from None

    def _no_turn(self) -> Busy:
        return Busy(f"too many calls to {self._key!r}: this one did not get its turn in time; repeat it")

    def _enter(self, call: tracing.Call) -> None:
        with self._guard:
            if len(self._inside) >= RUNNING_LIMIT + WAITING_LIMIT:
                raise Busy(f"too many calls to {self._key!r} at once ({len(self._inside)}); repeat this one later")
            self._inside.add(call)

    def _leave(self, call: tracing.Call) -> None:
        with self._guard:
            self._inside.discard(call)
            if not self._inside:
                self._empty_since = time.monotonic()
                self._guard.notify_all()

    def await_quiet(self, quiet_s: float, timeout_s: float) -> bool:
        ends = time.monotonic() + timeout_s
        with self._guard:
            while (now := time.monotonic()) < ends:
                left_s = math.inf if self._inside else self._empty_since + quiet_s - now
                if left_s <= 0:
                    return True
                self._guard.wait(min(left_s, ends - now))
        return False

    def drain(self, timeout_s: float) -> bool:
        with self._guard:
            return self._guard.wait_for(lambda: not self._inside, max(timeout_s, 0))


def _seconds_left(call: tracing.Call) -> float | None:
    """None for a call without a deadline: a lock does not take infinity."""
    return None if call.deadline == math.inf else max(call.deadline - time.monotonic(), 0)


def _log_late_end(call: tracing.Call, done: "Future[Any]") -> None:
    error = done.exception()
    log.info(
        "work ended after its answer",
        call=call.call_id,
        method=call.method,
        seconds=round(time.monotonic() - call.started, 3),
        result=repr(error) if error else "ok",
    )
