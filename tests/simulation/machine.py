"""Lives a history: what each step means now, on which of two processes, and what happens to it there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from csi_driver.errors import ClusterTimeout
from tests.memory_ceph import Crash as Died
from tests.memory_ceph.seam import Link
from tests.simulation import steps as do
from tests.simulation.calls import Calls
from tests.simulation.invariants import Invariants
from tests.simulation.model import Known, KnownSnapshot, KnownVolume, Life, Model
from tests.simulation.process import Process
from tests.simulation.requests import snapshot_spec, volume_spec
from tests.simulation.world import AtPoint, Machine, World

WAIT_S = 40.0

K = TypeVar("K", bound=Known)


@dataclass
class Node:
    """One process and where it runs."""

    machine: Machine
    process: Process


class History:
    """Two processes over one world."""

    def __init__(self, world: World, model: Model | None = None) -> None:
        self.world = world
        self.model = model or Model()
        self.invariants = Invariants(world, self.model)
        self.calls = Calls(world, self.model, self.invariants)
        self.taken = 0
        """Steps that found something to do."""
        self.nodes = [self.start(number) for number in range(2)]

    def start(self, number: int) -> Node:
        machine = self.world.machine()
        return Node(machine, Process(machine.clusters, f"node-{number}", self.world.key, self.world.kms))

    def live(self, history: Sequence[do.Step]) -> None:
        """Raises Broken, or what an operation raises that it must not."""
        for step in history:
            call = self.call(step.action, step.by)
            if call is None:
                continue
            self.taken += 1
            self._make(call, step)
            self.world.wait(1.0)
            self.invariants.hold()

    def _make(self, call: Callable[[], None], step: do.Step) -> None:
        try:
            if step.fault is None:
                call()
            else:
                with self.nodes[step.by].machine.interrupted(self._at_point(step)):
                    call()
        except Died:
            self.restart(step.by)

    def restart(self, number: int) -> None:
        self.nodes[number].machine.die()
        self.nodes[number] = self.start(number)

    def _at_point(self, step: do.Step) -> AtPoint:
        points: list[str] = []
        fault = step.fault
        assert fault

        def at_point(point: str, link: Link) -> None:
            points.append(point)
            is_there = point == fault.point and points.count(point) == 1
            if len(points) != fault.point and not is_there:
                return
            if isinstance(fault, do.Crash):
                self.nodes[step.by].machine.die()
                raise Died(point)
            if isinstance(fault, do.Timeout):
                link.replace()
                raise ClusterTimeout(f"{point}: no answer")
            if point.endswith((":before", ":after")) or point.startswith("images.flatten:"):
                # elsewhere librbd is in the middle of its work
                if fault.is_long:
                    self.world.wait(WAIT_S)
                self._meanwhile(step.action, fault.action or step.action, 1 - step.by)

        return at_point

    def _meanwhile(self, outer: do.Action, action: do.Action, by: int) -> None:
        subject = self.subject(action)
        if subject is not None and subject is self.subject(outer) and type(action) is not type(outer):
            return  # nobody asks for two things of one volume at once
        if call := self.call(action, by):
            call()

    # ── what a step means now ──

    def subject(self, action: do.Action) -> Known | None:
        if isinstance(action, do.Create):
            return self.model.volumes.get(f"volume-{action.name}")
        if isinstance(action, do.Snapshot):
            return self.model.snapshots.get(f"snapshot-{action.name}")
        if isinstance(action, do.DeleteSnapshot):
            return _pick(self.model.snapshots, action.snapshot, Life.LIVE, Life.DELETING)
        if isinstance(action, do.Delete):
            return _pick(self.model.volumes, action.volume, Life.LIVE, Life.DELETING)
        if isinstance(action, do.Write | do.Expand | do.Attach):
            return _pick(self.model.volumes, action.volume, Life.LIVE)
        return None

    def call(self, action: do.Action, by: int) -> Callable[[], None] | None:
        """None: there is nothing to do it with."""
        if isinstance(action, do.Create):
            return self._create_call(action, by)
        if isinstance(action, do.Snapshot):
            return self._snapshot_call(action, by)
        process = self.nodes[by].process
        if isinstance(action, do.Sweep | do.Flatten):
            return process.sweep if isinstance(action, do.Sweep) else process.flatten
        if isinstance(action, do.Wait | do.Restart):
            return partial(self.world.wait, WAIT_S) if isinstance(action, do.Wait) else partial(self.restart, by)
        return self._call_on(action, self.subject(action), process)

    def _call_on(
        self, action: do.Write | do.Expand | do.Delete | do.DeleteSnapshot | do.Attach, found: Known | None, on: Process
    ) -> Callable[[], None] | None:
        calls = self.calls
        if isinstance(found, KnownSnapshot):
            return partial(calls.delete_snapshot, found, on)
        if not isinstance(found, KnownVolume):
            return None
        if isinstance(action, do.Write):
            return partial(calls.write, found, action)
        if isinstance(action, do.Attach):
            return partial(calls.attach, found)
        return partial(calls.expand if isinstance(action, do.Expand) else calls.delete, found, on)

    def _create_call(self, action: do.Create, by: int) -> Callable[[], None] | None:
        name = f"volume-{action.name}"
        known = self.model.volumes.get(name)
        if known is None:
            source = self._source(action)
            spec = volume_spec(self.world, name, action, source)
            known = self.model.volumes[name] = KnownVolume(spec=spec)
            known.acceptable.append(source.content if source else ())
        elif known.life is Life.DELETING:
            return None
        return partial(self.calls.create, known, self.nodes[by].process)

    def _source(self, action: do.Create) -> Known | None:
        living = [one for one in self.model.everything if one.life is Life.LIVE]
        return living[action.source % len(living)] if living and action.source is not None else None

    def _snapshot_call(self, action: do.Snapshot, by: int) -> Callable[[], None] | None:
        name = f"snapshot-{action.name}"
        known = self.model.snapshots.get(name)
        if known is None:
            source = _pick(self.model.volumes, action.volume, Life.LIVE)
            if source is None:
                return None
            known = self.model.snapshots[name] = KnownSnapshot(spec=snapshot_spec(name, source.handle))
            known.acceptable.append(source.content)
        elif known.life is Life.DELETING:
            return None
        return partial(self.calls.snapshot, known, self.nodes[by].process)


def _pick(among: Mapping[str, K], index: int, *lives: Life) -> K | None:
    found = [one for one in among.values() if one.life in lives]
    return found[index % len(found)] if found else None
