"""Runs one schedule: the operations in turns, then each repeated until it is answered, then everything deleted."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

from csi_driver.errors import NoSpace
from csi_driver.journal import makers
from csi_driver.journal.makers import Makers
from csi_driver.operations.audit.repair import repair
from csi_driver.operations.audit.rules import UNFINISHED_S, findings
from csi_driver.operations.audit.survey import survey
from csi_driver.operations.site import Sites
from tests.memory_ceph import Crash as Died
from tests.memory_ceph.cluster import Connection
from tests.memory_ceph.seam import Client, Later, Link
from tests.schedules.faults import LATE, Kind, answer
from tests.schedules.scenes import STRANGERS, scenes
from tests.schedules.schedule import Schedule, Target
from tests.schedules.turns import TurnLock, Turns
from tests.simulation import steps as do
from tests.simulation.invariants import Broken, check
from tests.simulation.machine import WAIT_S, History, Node
from tests.simulation.model import Known, KnownSnapshot, KnownVolume, Life, Model
from tests.simulation.process import INSTANCE, Process
from tests.simulation.virtual import Clock, virtual_world
from tests.simulation.world import MemoryMachine, MemoryWorld

_BETWEEN = (":before", ":after", ":copying", ":looked", ":opened")
"""Where another may have its turn: elsewhere librbd is in the middle of its work."""
_MOST_POINTS = 20_000
_ROUNDS = 30
"""More than any unfinished call needs, with time passing in between."""

Ask = Callable[[Process], None]


@dataclass
class Outcome:
    """trace: who came to which point, in order (None: after the schedule). struck: the fault, if anyone came to it."""

    trace: list[tuple[int | None, str]] = field(default_factory=list)
    struck: Target | None = None
    failure: BaseException | None = None
    repaired: list[str] = field(default_factory=list)
    """Classes of what only the audit has found."""


class _Threading:
    """In place of the module, for the one lock of the driver that is held while Ceph is called."""

    Lock = TurnLock


def run(schedule: Schedule, turns: Turns, *, clones_format_2: bool) -> Outcome:
    """Raises nothing."""
    scene = next(one for one in scenes(clones_format_2=clones_format_2) if one.name == schedule.scene)
    TurnLock.turns = turns
    with virtual_world(seed=1) as clock, pytest.MonkeyPatch.context() as patch:
        patch.setattr(makers, "threading", _Threading)
        world = MemoryWorld(clock, clones_format_2=clones_format_2, saved=scene.ceph)
        clock.sleep(2 * WAIT_S)
        trial = Trial(schedule, world, scene.known(), turns)
        trial.run(clock)
        return trial.outcome


class Trial(History):
    """One schedule over its scene."""

    def __init__(self, schedule: Schedule, world: MemoryWorld, model: Model, turns: Turns) -> None:
        self._schedule = schedule
        self._turns = turns
        self._switches = iter(schedule.switches)
        self._until_switch = 0
        self._next_switch()
        self._met = 0
        self._late: tuple[Later, Link, Client] | None = None
        self._late_at = 0
        self._is_quiet = True
        self._is_passing = False
        self._memory = world
        self._asked: list[tuple[int, Known]] = []
        """Which operation of the schedule is for what, answered or not; none for the pool as a whole."""
        self.outcome = Outcome()
        super().__init__(world, model)
        self.calls.is_asked_for_elsewhere = self._is_asked_for_elsewhere
        if any(operation.replica == 2 for operation in schedule.operations):
            self.nodes.append(self.start(2))

    def start(self, number: int) -> Node:
        node = super().start(number)
        client = _client(node)
        client.at_point = partial(self._come_to, client)
        return node

    def run(self, clock: Clock) -> None:
        """Raises nothing: `outcome` tells."""
        try:
            if self._schedule.are_entered:
                for node in self.nodes[:2]:
                    node.process.enter()
            asks = [self._ask(number) for number in range(len(self._schedule.operations))]
            bodies = [partial(self._live, number, ask) for number, ask in enumerate(asks)]
            self._is_quiet = False
            clock.on_sleep = self._on_sleep
            self._turns.run(bodies, self._schedule.first)
            clock.on_sleep = lambda: None
            self._asked.clear()
            if self.outcome.failure is None:
                self._settle()
                self._end()
        except Exception as error:  # noqa: BLE001 - whatever it is, this schedule has shown it
            self.outcome.failure = error

    # ── in turns ──

    def _ask(self, number: int) -> Ask:
        """Its subject is what it is now, whatever the others do meanwhile."""
        operation = self._schedule.operations[number]
        action = operation.action
        if isinstance(action, do.Sweep | do.Flatten):
            return Process.sweep if isinstance(action, do.Sweep) else Process.flatten
        self.call(action, operation.replica)  # the model knows of it now
        known, calls = self.subject(action), self.calls
        assert known
        self._asked.append((number, known))
        if isinstance(known, KnownSnapshot):
            return partial(calls.snapshot if isinstance(action, do.Snapshot) else calls.delete_snapshot, known)
        assert isinstance(known, KnownVolume)
        if isinstance(action, do.Create):
            return partial(calls.create, known)
        return partial(calls.expand if isinstance(action, do.Expand) else calls.delete, known)

    def _is_asked_for_elsewhere(self, known: Known) -> bool:
        return sum(one is known for _, one in self._asked) > 1

    def _live(self, number: int, ask: Ask) -> None:
        operation = self._schedule.operations[number]
        try:
            ask(self.nodes[operation.replica].process)
        except Died:
            if _client(self.nodes[operation.replica]).is_dead:
                self.restart(operation.replica)
        except Exception as error:  # noqa: BLE001 - whatever it is, this schedule has shown it
            self.outcome.failure = self.outcome.failure or error

    def _come_to(self, client: Client, point: str, link: Link) -> None:
        if self._is_quiet:
            return
        whose, trace = self._turns.whose, self.outcome.trace
        trace.append((whose, point))
        if self._late and len(trace) >= self._late_at and point.endswith(_BETWEEN):
            self._make_late(*self._late)
        if whose is None:
            return
        fault = self._schedule.fault
        if point == fault.point and self.outcome.struck is None:
            self._met += 1
            if self._met == fault.nth:
                self._strike(fault.kind, link, client)
        if point.endswith(_BETWEEN):
            self._until_switch -= 1
            if self._until_switch == 0:
                self._give_turn()
        if len(trace) > _MOST_POINTS and self.outcome.failure is None:
            self.outcome.failure = Broken(f"no end after {_MOST_POINTS} calls to Ceph")
        if client.is_dead or self.outcome.failure:
            raise Died(point)

    def _strike(self, kind: Kind, link: Link, client: Client) -> None:
        point = self._schedule.fault.point
        self.outcome.struck = (point, kind)
        if kind is Kind.ENOSPC:
            self.calls.full = (NoSpace,)
        error: BaseException
        if kind in (Kind.CRASH, Kind.CRASH_LATE):
            client.is_dead = True
            error = Died(point)
        else:
            error, is_given_up = answer(kind, point)
            if is_given_up:
                link.replace()
        if kind not in LATE:
            raise error
        later = Later(error)
        self._late, self._late_at = (later, link, client), len(self.outcome.trace) + self._schedule.fault.later
        raise later

    def _make_late(self, later: Later, link: Link, client: Client) -> None:
        """Unless its client was cut off before."""
        self._late = None
        self.outcome.trace.append((self._turns.whose, "what is done later"))
        assert isinstance(link, Connection)
        if link.is_fenced(self._schedule.fault.point.partition(":")[0]):
            return
        was_dead, client.is_dead, self._is_quiet = client.is_dead, False, True
        try:
            later.make()
        except Exception:  # noqa: BLE001 - nobody hears of it
            pass
        finally:
            client.is_dead, self._is_quiet = was_dead, False

    def _next_switch(self) -> None:
        self._switch = next(self._switches, None)
        self._until_switch = self._switch.after if self._switch else 0

    def _give_turn(self) -> None:
        switch = self._switch
        assert switch
        self._next_switch()
        others = self._turns.others()
        if not others:
            return
        if switch.is_long:
            self._pass(WAIT_S)
        self._turns.give(others[switch.to % len(others)])

    def _pass(self, seconds: float) -> None:
        self._is_passing = True
        self.world.wait(seconds)
        self._is_passing = False

    def _on_sleep(self) -> None:
        """An operation waits for something: another goes on."""
        if not self._is_passing and self._turns.whose is not None and (others := self._turns.others()):
            self._turns.give(others[0])

    # ── afterwards ──

    def _settle(self) -> None:
        """Every call is repeated until it is answered. Raises Broken."""
        self.invariants.hold(is_explained=not self._is_late)
        for number in range(_ROUNDS):
            waiting = [one for one in self.model.everything if one.life in (Life.PENDING, Life.DELETING)]
            if not waiting:
                break
            self._round(waiting, number)
        else:
            raise Broken(f"not answered after {_ROUNDS} times: {[_name(one) for one in waiting]}")
        self.invariants.hold(is_explained=not self._is_late)

    def _end(self) -> None:
        """Everything is deleted, and nothing is left. Raises Broken."""
        shuffle = random.Random(self._schedule.order).shuffle
        for number in range(_ROUNDS):
            there = self.model.everything
            left = there or self.world.leftovers()
            if not left:
                check(set(self._memory.strangers().values()) == set(STRANGERS), "an image that is no driver's is gone")
                return
            if not there and self._is_late:
                self._repair()
            shuffle(there)
            for one in there:
                one.life = Life.DELETING if one.life is Life.LIVE else one.life
            self._round(there, number)
        raise Broken(f"after the end of all volumes and snapshots there is still {left}")

    @property
    def _is_late(self) -> bool:
        """What comes late may leave a name or an entry that nobody asks for any more: the audit finds them."""
        return self.outcome.struck is not None and self.outcome.struck[1] in LATE

    def _repair(self) -> None:
        self._pass(2 * UNFINISHED_S)
        with Sites(self._memory.machine().clusters, Makers("operator", INSTANCE), INSTANCE).open(
            self.world.key
        ) as site:
            for finding in findings(survey(site, lambda _what, _number, _of: None)):
                self.outcome.repaired.append(finding.what)
                repair(site, finding)

    def _round(self, waiting: list[Known], number: int) -> None:
        process = self.nodes[number % 2].process
        for one in waiting:
            self._ask_again(one)(process)
        process.flatten()
        process.sweep()
        self._pass(WAIT_S)

    def _ask_again(self, known: Known) -> Ask:
        is_new = known.life is Life.PENDING
        if isinstance(known, KnownSnapshot):
            return partial(self.calls.snapshot if is_new else self.calls.delete_snapshot, known)
        assert isinstance(known, KnownVolume)
        return partial(self.calls.create if is_new else self.calls.delete, known)


def _client(node: Node) -> Client:
    assert isinstance(node.machine, MemoryMachine)
    return node.machine.client


def _name(known: Known) -> str:
    assert isinstance(known, KnownVolume | KnownSnapshot)
    return f"{known.spec.name} ({known.life.name})"
