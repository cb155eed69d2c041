"""Time and uuids that are decided by the history alone, in place of those of the driver's modules."""

import random
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from csi_driver.journal import ending, journal, makers
from csi_driver.operations import (
    creation,
    deletion,
    depth,
    election,
    flatten_course,
    flattener,
    flattening,
    groups,
    purge,
    relief,
    snapshots,
)

_TIMED = (ending, journal, makers, deletion, depth, election, flattener, flattening, purge)
_NAMING = (creation, groups, snapshots)


RELIEF_AT = 4
"""Snaps on an image: few enough for a history to come to it."""


class Clock:
    """In place of the module `time`. It goes on when the driver sleeps, and when the history says so."""

    def __init__(self) -> None:
        self._now = 1_000_000.0
        self.on_sleep: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self._now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self._now += seconds
        self.on_sleep()


class Uuids:
    """In place of the module `uuid`."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)


class _Waiting:
    """In place of the module `threading` where a lease is kept, or a flatten looked after: behind the work, after some time,
    and none passes within a step.
    """

    Event = threading.Event

    class Thread:
        def __init__(self, **_: object) -> None: ...
        def start(self) -> None: ...
        def join(self) -> None: ...


@contextmanager
def virtual_world(seed: int = 0) -> Iterator[Clock]:
    """The clock of the driver while this lasts. seed: of the uuids."""
    clock, uuids = Clock(), Uuids(seed)
    with pytest.MonkeyPatch.context() as patch:
        for module in _TIMED:
            patch.setattr(module, "time", clock)
        for naming in _NAMING:
            patch.setattr(naming, "uuid", uuids)
        patch.setattr(election, "threading", _Waiting)
        patch.setattr(flatten_course, "threading", _Waiting)
        patch.setattr(relief, "RELIEF_AT", RELIEF_AT)
        yield clock
