"""What a call is doing now: its id, its phase, what Ceph last said. Also the one place where steps can be made to fail.

A `Call` travels with its thread in a context variable. Every call to Ceph and every write of the journal runs inside
`step(...)`, which names the phase (for Busy answers and the log), logs the time at debug, and offers the two points,
before and after, at which a test can kill, stop, delay or fail the process (failpoints.py; free when unset).
"""

import itertools
import math
import os
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import structlog

from csi_driver import failpoints

log = structlog.get_logger(__name__)

_numbers = itertools.count(1)
_process = f"{os.getpid() & 0xFFFF:04x}{int(time.time()) & 0xFFF:03x}"


@dataclass(eq=False)
class Call:
    """One call under way. Times are of the monotonic clock, in seconds."""

    method: str
    subject: str = ""
    call_id: str = field(default_factory=lambda: f"{_process}-{next(_numbers)}")
    started: float = field(default_factory=time.monotonic)
    deadline: float = math.inf
    phase: str = "starting"
    last_trouble: str = ""

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.started

    def describe(self) -> str:
        """Who works, since when, at what: for the answer of another call that has to wait."""
        said = f"; last trouble: {self.last_trouble}" if self.last_trouble else ""
        return f"{self.method} (call {self.call_id}) for {self.age_s:.1f} s, in {self.phase}{said}"


@dataclass(frozen=True)
class StepEnd:
    """A step that has ended. error: with which it did, if it did; call: for which it was made, if for one."""

    name: str
    subject: str
    call: Call | None
    seconds: float
    error: BaseException | None


class Observer(Protocol):
    """Hears of what ends, on the thread that did it."""

    def step_ended(self, ended: StepEnd) -> None: ...

    def call_ended(self, call: Call, code: str, seconds: float) -> None: ...


observers: list[Observer] = []
"""Set once, before anything is served."""


def call_ended(call: Call, code: str) -> None:
    """The call was answered with this status code."""
    for observer in observers:
        observer.call_ended(call, code, call.age_s)


_current: ContextVar[Call | None] = ContextVar("call", default=None)


def current() -> Call | None:
    """The call that this thread works for."""
    return _current.get()


def begin(call: Call) -> None:
    """Make `call` the current one of this context, and of the log lines written in it."""
    _current.set(call)
    structlog.contextvars.bind_contextvars(call=call.call_id)


class step:  # noqa: N801 - reads as a verb where it is used: `with step("images.create", name):`
    """A named piece of work on one object."""

    __slots__ = ("_name", "_started", "_subject")

    def __init__(self, name: str, subject: str) -> None:
        self._name = name
        self._subject = subject
        self._started = 0.0

    def __enter__(self) -> Self:
        call = _current.get()
        if call:
            call.phase = f"{self._name} {self._subject}"
        if failpoints.armed:
            failpoints.reach(f"{self._name}:before")
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self._started
        milliseconds = seconds * 1000
        if error:
            if call := _current.get():
                call.last_trouble = f"{self._name} {self._subject}: {error}"
            log.debug("step", step=self._name, of=self._subject, ms=round(milliseconds, 2), failed=repr(error))
        else:
            log.debug("step", step=self._name, of=self._subject, ms=round(milliseconds, 2))
        for observer in observers:
            observer.step_ended(StepEnd(self._name, self._subject, _current.get(), seconds, error))
        if failpoints.armed:
            failpoints.reach(f"{self._name}:after")
