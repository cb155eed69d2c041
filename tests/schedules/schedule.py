"""A schedule as a value, and how one is drawn from a number: the same number, the same schedule."""

import random
from dataclasses import dataclass
from functools import cache

from tests.schedules.faults import LATE, Fault, Kind, kinds_at
from tests.schedules.scenes import Asked, Scene, scenes
from tests.simulation.steps import Action

OPERATIONS = 3
_SWITCHES = 40


@dataclass(frozen=True)
class Operation:
    """What one replica is asked for."""

    action: Action
    replica: int


@dataclass(frozen=True)
class Switch:
    """After so many points the turn goes to another, chosen by its number. is_long: and more than the grace time passes."""

    after: int
    to: int
    is_long: bool = False


@dataclass(frozen=True)
class Schedule:
    """The whole of it. first: who begins. are_entered: the replicas have been in the pool before. order: of the deletes."""

    scene: str
    operations: tuple[Operation, ...]
    switches: tuple[Switch, ...]
    fault: Fault
    first: int = 0
    are_entered: bool = True
    order: int = 0


Target = tuple[str, Kind]
"""A point, and what happens there."""


@cache
def targets(*, clones_format_2: bool) -> dict[Target, list[tuple[Scene, Asked]]]:
    """All that can happen, and where it can be met."""
    found: dict[Target, list[tuple[Scene, Asked]]] = {}
    for scene in scenes(clones_format_2=clones_format_2):
        for asked in scene.asked:
            for point in dict.fromkeys(asked.points):
                for kind in kinds_at(point):
                    found.setdefault((point, kind), []).append((scene, asked))
    return found


@cache
def _listed(*, clones_format_2: bool) -> list[Target]:
    return sorted(targets(clones_format_2=clones_format_2))


def draw(number: int, *, clones_format_2: bool) -> Schedule:
    """Every third number aims at one target after another, the others anywhere."""
    chance = random.Random(number)
    if number % 3 == 0:
        listed = _listed(clones_format_2=clones_format_2)
        point, kind = listed[number // 3 % len(listed)]
        scene, asked = chance.choice(targets(clones_format_2=clones_format_2)[point, kind])
        nth = chance.randint(1, asked.points.count(point))
    else:
        scene = chance.choice(scenes(clones_format_2=clones_format_2))
        asked = chance.choice(scene.asked)
        place = chance.randrange(len(asked.points))
        point = asked.points[place]
        nth = asked.points[: place + 1].count(point)
        kind = chance.choice(kinds_at(point))
    return _around(chance, scene, asked, (point, nth, kind))


def _around(chance: random.Random, scene: Scene, asked: Asked, struck: tuple[str, int, Kind]) -> Schedule:
    point, nth, kind = struck
    replicas = 3 if chance.random() < 0.2 else 2
    chosen = [asked]
    while len(chosen) < OPERATIONS:
        one = asked if chance.random() < 0.5 and kind is not Kind.ENOSPC else chance.choice(scene.asked)
        if _go_together(one, chosen, is_apart=kind is Kind.ENOSPC):
            chosen.append(one)
    operations = _shared_out(chance, chosen, replicas)
    later = chance.randint(1, chance.choice((8, 80))) if kind in LATE else 0
    density = chance.choice((0.03, 0.1, 0.3))
    is_slow = chance.random() < 0.4
    switches = tuple(
        Switch(1 + int(chance.expovariate(density)), chance.randrange(2), is_long=is_slow and chance.random() < 0.2)
        for _ in range(_SWITCHES if density > 0.05 else _SWITCHES // 4)
    )
    return Schedule(
        scene.name,
        operations,
        switches,
        Fault(point, nth, kind, later),
        first=chance.randrange(OPERATIONS),
        are_entered=chance.random() < 0.7 and not _is_of_entry(scene, asked, point, nth),
        order=chance.randrange(1 << 16),
    )


def _is_of_entry(scene: Scene, asked: Asked, point: str, nth: int) -> bool:
    """Whether who has entered the pool before does not come to the point so often."""
    return nth > asked.points.count(point) - scene.entry.count(point)


def _shared_out(chance: random.Random, chosen: list[Asked], replicas: int) -> tuple[Operation, ...]:
    """A process does one thing at a time to the pool as a whole."""
    first = chance.randrange(replicas)
    operations: list[Operation] = []
    for number, one in enumerate(chosen):
        replica = (first + number) % replicas if chance.random() < 0.85 else chance.randrange(replicas)
        if one.subject == "the pool":
            busy = [other.replica for other in operations if other.action == one.action]
            replica = next(free for free in range(replica, replica + 3) if free % 3 not in busy) % 3
        operations.append(Operation(one.action, replica))
    return tuple(operations)


def _go_together(one: Asked, chosen: list[Asked], *, is_apart: bool) -> bool:
    """Nobody asks for two things of one volume at once; where a refusal may end it, no two for the same."""
    return all(
        other.subject != one.subject or (other.action == one.action and (not is_apart or one.subject == "the pool"))
        for other in chosen
    )
