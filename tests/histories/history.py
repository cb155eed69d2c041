"""Lives a history on real processes: crashes where they happen, and two calls at once."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

from csi_driver.ceph.api import ImageMissing
from csi_driver.journal.entries import VolumeEntry
from tests.histories.replica import Replica
from tests.histories.world import RealWorld
from tests.simulation import steps as do
from tests.simulation.calls import Calls
from tests.simulation.invariants import Broken, Invariants
from tests.simulation.machine import History, Node
from tests.simulation.model import Content, KnownVolume
from tests.simulation.process import Process

_LOOKS = 50
_BETWEEN_LOOKS_S = 0.1
_POINT_S = 0.005
_LONG = do.Create | do.Snapshot | do.Delete | do.DeleteSnapshot | do.Expand

T = TypeVar("T")


class RealInvariants(Invariants):
    """The rules, looked at while drivers go on: an image that cannot be opened just now is looked at again."""

    def volume_entry(self, handle: str) -> VolumeEntry:
        return self._again(lambda: super(RealInvariants, self).volume_entry(handle), Broken)

    def _content(self, entry: VolumeEntry) -> Content | None:
        return self._again(lambda: super(RealInvariants, self)._content(entry), Broken, ImageMissing)

    def _volume(self, volume: KnownVolume) -> None:
        self._again(lambda: super(RealInvariants, self)._volume(volume), ImageMissing)

    @staticmethod
    def _again(look: Callable[[], T], *unless: type[Exception]) -> T:
        for _ in range(_LOOKS):
            try:
                return look()
            except unless:
                time.sleep(_BETWEEN_LOOKS_S)
        return look()


class RealHistory(History):
    """Two driver processes over one pool. `turn`: see Replica; held here but while calls run."""

    def __init__(self, world: RealWorld, turn: threading.Lock) -> None:
        self._turn = turn
        self._replicas: list[Replica] = []
        self._real = world
        super().__init__(world)
        self.invariants = RealInvariants(world, self.model)
        self.calls = Calls(world, self.model, self.invariants)

    def start(self, number: int) -> Node:
        replica = self._real.machine()
        self._replicas.append(replica)
        return Node(replica, cast("Process", replica))  # the operations of one, by their names

    def restart(self, number: int) -> None:
        self._replicas[number].die()

    def calm(self) -> None:
        """From now on nobody dies but of what is armed already."""
        for replica in self._replicas:
            replica.is_calm = True

    def call(self, action: do.Action, by: int) -> Callable[[], None] | None:
        return None if isinstance(action, do.Wait) else super().call(action, by)

    def _make(self, call: Callable[[], None], step: do.Step) -> None:
        for replica in self._replicas:
            replica.revive()
        fault = step.fault
        with ThreadPoolExecutor(1) as thread:
            made = thread.submit(self._in_turn, call)
            if isinstance(fault, do.Meanwhile):
                self._in_turn(lambda: self._meanwhile(step.action, fault.action or step.action, 1 - step.by))
            elif isinstance(fault, do.Crash) and isinstance(fault.point, int) and isinstance(step.action, _LONG):
                self._kill_during(made.exception, fault.point * _POINT_S, step.by)
            made.result()

    def _in_turn(self, call: Callable[[], None]) -> None:
        with self._turn:
            call()

    def _kill_during(self, outcome: Callable[[float], object], after_s: float, number: int) -> None:
        try:
            outcome(after_s)
        except TimeoutError:
            self.restart(number)
