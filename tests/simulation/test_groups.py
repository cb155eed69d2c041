"""Group snapshots in memory: the process dies, or another one goes on meanwhile, at each point that there is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TypeVar

import pytest

from csi_driver.errors import NotFound, Rejected, Unfinished
from csi_driver.ids import Handle
from csi_driver.journal.layout import GROUPS, SNAPSHOTS
from csi_driver.model import GroupSnapshot, GroupSnapshotSpec, SourceKind, VolumeSource
from tests.memory_ceph import Crash
from tests.memory_ceph.seam import Link
from tests.simulation import steps as do
from tests.simulation.process import Process
from tests.simulation.requests import volume_spec
from tests.simulation.virtual import virtual_world
from tests.simulation.world import MemoryWorld

T = TypeVar("T")

WAIT_S = 40.0
"""More than another process's work is respected."""


@dataclass
class Scene:
    """Two volumes with known content in one pool, and a process."""

    world: MemoryWorld
    handles: tuple[str, ...]
    process: Process

    def image(self, handle: str) -> str:
        return f"csi-vol-{handle[-36:]}"

    def spec(self) -> GroupSnapshotSpec:
        return GroupSnapshotSpec("group", self.handles)

    def another(self, identity: str = "node-0") -> Process:
        return Process(self.world.machine().clusters, identity, self.world.key)

    def create(self, process: Process) -> GroupSnapshot:
        return self.until_done(lambda: process.group_creation.create(self.spec(), None))

    def delete(self, process: Process, group: GroupSnapshot) -> None:
        ids = [one.handle for one in group.snapshots]
        self.until_done(lambda: process.group_deletion.delete(group.handle, ids, None))

    def until_done(self, call: Callable[[], T]) -> T:
        for _ in range(20):
            try:
                return call()
            except Unfinished:
                self.world.wait(WAIT_S)
        return call()

    def reads(self, group: GroupSnapshot) -> dict[str, int]:
        """The first block of each member's snap, by its source."""
        found = {}
        for one in group.snapshots:
            handle = Handle.parse(one.handle)
            assert handle
            keys = self.world.pool.objects.read(SNAPSHOTS.object(handle.uuid))
            assert keys is not None
            image = self.world.ceph.images.by_id[keys["source_image_id"]]
            found[one.source_handle] = self.world.ceph.images.content(image, image.snaps[int(keys["snap_id"])])[0]
        return found

    def end(self, process: Process, *others: str) -> None:
        """All volumes deleted, nothing left."""
        for handle in (*self.handles, *others):
            self.until_done(partial(process.deletion.delete, handle, None))
        for _ in range(20):
            process.sweep()
            if not self.world.leftovers():
                return
            self.world.wait(WAIT_S)
        assert self.world.leftovers() == []


@contextmanager
def scene() -> Iterator[Scene]:
    with virtual_world() as clock:
        world = MemoryWorld(clock)
        process = Process(world.machine().clusters, "node-0", world.key)
        handles = tuple(
            process.creation.create(volume_spec(world, f"volume-{n}", do.Create(n), None), None).handle
            for n in range(2)
        )
        found = Scene(world, handles, process)
        for number, handle in enumerate(handles):
            world.write(found.image(handle), 0, number + 1)
        yield found


def cut_at(here: Scene, number: int, call: Callable[[Process], object]) -> bool:
    """Make the call in a process that dies at this point of it; False when it has not so many."""
    machine = here.world.machine()
    process = Process(machine.clusters, "node-0", here.world.key)
    passed = 0

    def at_point(point: str, _link: Link) -> None:
        nonlocal passed
        passed += 1
        if passed == number:
            machine.die()
            raise Crash(point)

    try:
        with machine.interrupted(at_point):
            call(process)
    except Crash:
        return True
    return False


def overtake_at(here: Scene, number: int, call: Callable[[Process], object], other: Callable[[], object]) -> bool:
    """Make the call in a process that stands still at this point of it, while another one takes its work over."""
    machine = here.world.machine()
    process = Process(machine.clusters, "node-0", here.world.key)
    passed = 0

    def at_point(point: str, _link: Link) -> None:
        nonlocal passed
        if not point.endswith((":before", ":after")):  # elsewhere librbd is in the middle of its work
            return
        passed += 1
        if passed == number:
            here.world.wait(WAIT_S)
            other()

    with suppress(Unfinished, Rejected), machine.interrupted(at_point):
        call(process)
    return passed >= number


def _note(made: list[GroupSnapshot], here: Scene) -> None:
    made.append(here.create(here.another("node-1")))


def _delete(group: GroupSnapshot, process: Process) -> None:
    process.group_deletion.delete(group.handle, [one.handle for one in group.snapshots], None)


CONTENT = (1, 2)


@pytest.mark.parametrize("clones_of_it", [False, True], ids=["alone", "cloned"])
def test_a_group_is_made_and_deleted(clones_of_it: bool) -> None:
    with scene() as here:
        group = here.create(here.process)
        assert list(here.reads(group).values()) == list(CONTENT)
        copies = []
        if clones_of_it:
            spec = replace(
                volume_spec(here.world, "copy", do.Create(5), None),
                source=VolumeSource(SourceKind.SNAPSHOT, group.snapshots[0].handle),
            )
            copies.append(here.process.creation.create(spec, None).handle)
        here.delete(here.process, group)
        here.end(here.process, *copies)


def test_a_create_that_dies_at_any_point_is_finished_by_the_repeated_call() -> None:
    for number in count(1):
        with scene() as here:
            died = cut_at(here, number, lambda process: process.group_creation.create(here.spec(), None))
            group = here.create(here.another())
            assert list(here.reads(group).values()) == list(CONTENT), number
            assert here.create(here.another("node-1")) == group, number
            here.delete(here.process, group)
            here.end(here.process)
        if not died:
            assert number > 30
            return


def test_a_delete_that_dies_at_any_point_is_finished_by_the_repeated_call() -> None:
    for number in count(1):
        with scene() as here:
            group = here.create(here.process)
            died = cut_at(here, number, partial(_delete, group))
            here.delete(here.another(), group)
            here.end(here.another())
        if not died:
            assert number > 20
            return


def test_a_create_that_dies_at_any_point_and_is_never_repeated_lets_its_volumes_go() -> None:
    """They are deleted; what is left of the group goes with the next call of its name."""
    for number in count(1):
        with scene() as here:
            died = cut_at(here, number, lambda process: process.group_creation.create(here.spec(), None))
            other = here.another()
            for handle in here.handles:
                here.until_done(partial(other.deletion.delete, handle, None))
            with suppress(NotFound):  # it may have been complete
                here.delete(other, here.create(other))
            here.end(other)
        if not died:
            return


def test_a_create_that_is_overtaken_at_any_point_harms_nothing() -> None:
    for number in count(1):
        with scene() as here:
            made: list[GroupSnapshot] = []
            was_overtaken = overtake_at(
                here,
                number,
                lambda process: process.group_creation.create(here.spec(), None),
                partial(_note, made, here),
            )
            group = here.create(here.another("node-1"))
            assert made in ([], [group]), number
            assert list(here.reads(group).values()) == list(CONTENT), number
            here.delete(here.process, group)
            here.end(here.process)
        if not was_overtaken:
            return


def test_a_create_that_finds_a_volume_gone_leaves_anothers_entry_its_name() -> None:
    """At each point of it another create of the name writes its entry and dies, and a volume of the group is deleted."""
    for number in count(1):
        with scene() as here:
            assert cut_at(here, _after_claim(here), here.create)
            if not overtake_at(here, number, partial(_create_once, here), partial(_begin_and_delete, here)):
                return
            with suppress(NotFound):
                here.delete(here.process, here.create(here.another("node-1")))
            here.end(here.another("node-1"))


def _create_once(here: Scene, process: Process) -> None:
    process.group_creation.create(here.spec(), None)


def _after_claim(here: Scene) -> int:
    """The first point at which the group's name has its key, and no entry."""
    with scene() as probe:
        return next(
            number
            for number in count(1)
            if cut_at(probe, number, probe.create) and probe.world.pool.objects.read_key(_DIRECTORY, _K)
        )


def _begin_and_delete(here: Scene) -> None:
    """Another process's create, cut short when its entry is written; then one of its volumes is deleted."""
    machine = here.world.machine()
    other = Process(machine.clusters, "node-1", here.world.key)

    def at_point(point: str, _link: Link) -> None:
        if point == "groups.create:before":
            machine.die()
            raise Crash(point)

    with suppress(Crash, Unfinished, NotFound), machine.interrupted(at_point):
        other.group_creation.create(here.spec(), None)
    here.until_done(partial(here.another("node-2").deletion.delete, here.handles[1], None))


_DIRECTORY, _K = GROUPS.directory("default"), GROUPS.name_key("group")
