"""What stands in the pool when a schedule begins, and what can be asked for there."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

from csi_driver.model import FlattenMode, ImageLayout
from tests.memory_ceph import BLOCK
from tests.memory_ceph.seam import Link
from tests.simulation.machine import WAIT_S, History
from tests.simulation.model import Life, Model
from tests.simulation.steps import (
    Action,
    Crash,
    Create,
    Delete,
    DeleteSnapshot,
    Expand,
    Flatten,
    Snapshot,
    Step,
    Sweep,
    Timeout,
    Wait,
    Write,
)
from tests.simulation.virtual import virtual_world
from tests.simulation.world import MemoryWorld

_VOLUME = (Step(Create(0)), Step(Write(0, 1, 7)))
_SNAPSHOT = (*_VOLUME, Step(Snapshot(0, 0)))
_QUEUED = (*_SNAPSHOT, Step(Create(1, source=1, mode=FlattenMode.ALWAYS)))

STRANGERS = ("database", "old-database")
"""Images of another's, of which one is in the trash."""

HISTORIES: dict[str, tuple[Step, ...]] = {
    "an empty pool": (),
    "a volume": _VOLUME,
    "a snapshot": _SNAPSHOT,
    "a copy": (*_SNAPSHOT, Step(Create(1, source=1))),
    "a copy to be flattened": _QUEUED,
    "a plain copy to be flattened": (
        *_SNAPSHOT,
        Step(Create(1, source=1, has_deep_flatten=False, mode=FlattenMode.ALWAYS)),
        Step(Snapshot(1, 1)),
    ),
    "a copy too deep": (
        *_VOLUME,
        Step(Create(1, source=0)),
        Step(Create(2, source=1, mode=FlattenMode.NEVER)),
        Step(Create(3, source=2)),
    ),
    "a deleted volume": (*_VOLUME, Step(Delete(0))),
    "a deleted volume with a snapshot": (*_SNAPSHOT, Step(Delete(0))),
    "a deleted volume with a copy": (*_VOLUME, Step(Create(1, source=0)), Step(Delete(0))),
    "a deleted snapshot with a copy": (*_SNAPSHOT, Step(Create(1, source=1)), Step(DeleteSnapshot(0))),
    "a half made volume": (Step(Create(0), fault=Crash("images.create:named")),),
    "a half made copy": (*_SNAPSHOT, Step(Create(1, source=0), fault=Crash("images.clone:unlisted"))),
    "a copy whose source is cut": (*_VOLUME, Step(Create(1, source=0), fault=Timeout("images.clone:before"))),
    "a half cut snapshot": (*_VOLUME, Step(Snapshot(0, 0), fault=Crash("images.cut:half"))),
    "a half deleted volume": (*_VOLUME, Step(Delete(0), fault=Crash("images.move_to_trash:both"))),
    "a half deleted snapshot": (*_SNAPSHOT, Step(DeleteSnapshot(0), fault=Crash("images.remove_snap:trashed"))),
    "a half purged volume": (
        *_VOLUME,
        Step(Delete(0)),
        Step(Sweep(), fault=Crash("images.purge:headless")),
    ),
    "a half flattened copy": (*_QUEUED, Step(Flatten(), fault=Crash("images.flatten:delisted")), Step(Wait())),
    "an unlinked copy": (
        *_QUEUED,
        Step(DeleteSnapshot(0)),
        Step(Delete(0)),
        Step(Flatten(), fault=Crash("images.flatten:unlinked")),
        Step(Wait()),
    ),
}


@dataclass(frozen=True)
class Asked:
    """Something that can be asked for, of what, and the points that it comes to when it is alone."""

    action: Action
    subject: str
    points: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """A pool, what is known of it, and what can be asked for. entry: the points that a process comes to that is new there."""

    name: str
    ceph: bytes
    model: bytes
    asked: tuple[Asked, ...] = ()
    entry: tuple[str, ...] = ()

    def known(self) -> Model:
        found = pickle.loads(self.model)
        assert isinstance(found, Model)
        return found


@cache
def scenes(*, clones_format_2: bool) -> tuple[Scene, ...]:
    return tuple(_scene(name, clones_format_2=clones_format_2) for name in HISTORIES)


def _scene(name: str, *, clones_format_2: bool) -> Scene:
    with virtual_world() as clock:
        world = MemoryWorld(clock, clones_format_2=clones_format_2)
        history = History(world)
        for stranger in STRANGERS:
            world.pool.images.create(stranger, BLOCK, ImageLayout(("layering",)))
        world.pool.images.move_to_trash(STRANGERS[-1])
        history.live(HISTORIES[name])
        world.wait(WAIT_S)
        asked = [Asked(action, subject) for action in _actions(history) if (subject := _subject(history, action))]
        scene = Scene(name, world.ceph.save(), pickle.dumps(history.model))

    def points(call: _CallOf) -> tuple[str, ...]:
        return _points(scene, call, clones_format_2=clones_format_2)

    found = [replace(one, points=points(partial(History.call, action=one.action, by=0))) for one in asked]
    entry = points(lambda history: history.nodes[0].process.enter)
    return replace(scene, asked=tuple(one for one in found if one.points), entry=entry)


def _subject(history: History, action: Action) -> str:
    """Of what it is asked, as a name; nothing where there is none."""
    if isinstance(action, Create):
        return f"volume-{action.name}"
    if isinstance(action, Snapshot):
        return f"snapshot-{action.name}"
    if isinstance(action, Sweep | Flatten):
        return "the pool"
    known = history.subject(action)
    names = {**history.model.volumes, **history.model.snapshots}
    return next((name for name, one in names.items() if one is known), "")


def _actions(history: History) -> list[Action]:
    model = history.model
    living = [one for one in model.everything if one.life is Life.LIVE]
    volumes = range(sum(one.life in (Life.LIVE, Life.DELETING) for one in model.volumes.values()))
    snapshots = range(sum(one.life in (Life.LIVE, Life.DELETING) for one in model.snapshots.values()))
    found: list[Action] = [Create(7), Create(6), Sweep(), Flatten()]
    for source in range(len(living)):
        found += [
            Create(5, source),
            Create(4, source, extra_blocks=1, has_deep_flatten=False),
            Create(3, source, mode=FlattenMode.ALWAYS),
        ]
    found += [Create(int(name[7:])) for name, one in model.volumes.items() if one.life is Life.PENDING]
    found += [Snapshot(int(name[9:]), 0) for name, one in model.snapshots.items() if one.life is Life.PENDING]
    found += [Snapshot(5, number) for number in volumes]
    found += [Delete(number) for number in volumes] + [Expand(number) for number in volumes]
    found += [DeleteSnapshot(number) for number in snapshots]
    return found


_CallOf = Callable[[History], Callable[[], object] | None]


def _points(scene: Scene, call_of: _CallOf, *, clones_format_2: bool) -> tuple[str, ...]:
    points: list[str] = []

    def note(point: str, _link: Link) -> None:
        points.append(point)

    with virtual_world(seed=1) as clock:
        history = History(MemoryWorld(clock, clones_format_2=clones_format_2, saved=scene.ceph), scene.known())
        call = call_of(history)
        if call:
            with history.nodes[0].machine.interrupted(note):
                call()
    return tuple(points)
