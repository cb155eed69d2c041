"""Volumes of a class with topology-bound pools: cut short at every point, then asked for again, as before or otherwise.

The name's key stands in another pool than the volume. Whatever was cut short, the name has one volume in the end, in the
pool that the last request allows, and its deletion leaves nothing in any pool.
"""

import itertools
from collections.abc import Callable

import pytest

from csi_driver.errors import Conflict, Unfinished
from csi_driver.ids import Handle
from csi_driver.journal.makers import Makers
from csi_driver.model import (
    AccessMode,
    Capability,
    CapacityRange,
    ConstrainedPool,
    ImageLayout,
    Segments,
    Volume,
    VolumeSpec,
)
from csi_driver.operations.site import PoolKey, Sites
from csi_driver.operations.undeletion import Undeleted, VolumeUndeletion
from tests.memory_ceph import BLOCK
from tests.memory_ceph.seam import Crash, Link
from tests.simulation.process import Process
from tests.simulation.virtual import virtual_world
from tests.simulation.world import MemoryMachine, MemoryWorld

ZONE_A, ZONE_B = {"zone": "a"}, {"zone": "b"}
POOL_OF = {"a": 3, "b": 4}
POOLS = (ConstrainedPool("second", "", ZONE_A), ConstrainedPool("data", "", ZONE_B))
_TRIES = 40


def spec(wish: Segments) -> VolumeSpec:
    return VolumeSpec(
        name="pvc",
        cluster_id="dev",
        pool="rbd",
        capacity=CapacityRange(BLOCK),
        size_bytes=BLOCK,
        capabilities=(Capability(AccessMode.SINGLE_NODE_WRITER, is_block=True),),
        layout=ImageLayout(("layering", "exclusive-lock")),
        constrained_pools=POOLS,
        reachable_from=(wish,),
    )


class Bed:
    """A cluster, and processes of one identity on it, one after another."""

    def __init__(self, world: MemoryWorld) -> None:
        self.world = world
        self._start()

    def _start(self) -> None:
        self.machine: MemoryMachine = self.world.machine()
        self._processes = [Process(self.machine.clusters, "node", PoolKey("dev", None, pool)) for pool in (2, 3, 4)]
        self.process = self._processes[0]

    def is_cut_short(self, work: Callable[[], object], at: int) -> bool:
        """Whether the process died at its `at`-th point of the work; its successor runs then."""
        points = itertools.count(1)

        def at_point(point: str, _link: Link) -> None:
            if next(points) == at:
                self.machine.die()
                raise Crash(point)

        try:
            with self.machine.interrupted(at_point):
                work()
        except Crash:
            self._start()
            return True
        return False

    def create(self, wish: Segments) -> Volume:
        for _ in range(_TRIES):
            try:
                return self.process.creation.create(spec(wish), None)
            except Unfinished:
                self.world.wait(5)
        raise AssertionError("the create never ends")

    def undelete(self, handle: str) -> Undeleted:
        parsed = Handle.parse(handle)
        assert parsed
        sites = Sites(self.machine.clusters, Makers("operator", "default"), "default")
        return VolumeUndeletion(sites).undelete(parsed)

    def delete(self, handle: str) -> None:
        for _ in range(_TRIES):
            try:
                self.process.deletion.delete(handle, None)
            except Unfinished:
                self.world.wait(5)
            else:
                return
        raise AssertionError("the delete never ends")

    def leftovers(self) -> list[str]:
        found = []
        for pool_id in (2, 3, 4):
            self.world.place = self.world.ceph.place(pool_id)
            found += [f"pool {pool_id}: {one}" for one in self.world.leftovers()]
        return found

    def end(self, handle: str) -> None:
        self.delete(handle)
        for _ in range(_TRIES):
            for process in self._processes:
                process.sweep()
            if not self.leftovers():
                return
            self.world.wait(5)
        raise AssertionError(self.leftovers())


def pool_of(volume: Volume) -> int:
    return int(volume.handle.split("-")[3], 16)


@pytest.mark.parametrize("second_wish", [ZONE_A, ZONE_B], ids=["same wish", "other wish"])
def test_a_create_cut_short_anywhere_ends_with_one_volume_where_the_last_request_wants_it(
    second_wish: Segments,
) -> None:
    """Or, where the first came to its end, with a conflict that says where the volume is."""
    at, was_cut_short = 0, True
    seen = set()
    while was_cut_short:
        at += 1
        with virtual_world() as clock:
            bed = Bed(MemoryWorld(clock))
            was_cut_short = bed.is_cut_short(lambda one=bed: one.create(ZONE_A), at)  # type: ignore[misc]
            try:
                volume, wish = bed.create(second_wish), second_wish
            except Conflict:
                volume, wish = bed.create(ZONE_A), ZONE_A
            assert pool_of(volume) == POOL_OF[wish["zone"]]
            assert volume.topology == wish
            assert bed.create(wish).handle == volume.handle
            seen.add(wish["zone"])
            bed.end(volume.handle)
    assert at > 20
    assert seen == {"a", second_wish["zone"]}


def test_a_delete_cut_short_anywhere_is_finished_and_frees_the_name() -> None:
    at, was_cut_short = 0, True
    while was_cut_short:
        at += 1
        with virtual_world() as clock:
            bed = Bed(MemoryWorld(clock))
            volume = bed.create(ZONE_A)
            was_cut_short = bed.is_cut_short(lambda one=bed, it=volume: one.delete(it.handle), at)  # type: ignore[misc]
            bed.delete(volume.handle)
            again = bed.create(ZONE_B)
            assert pool_of(again) == POOL_OF["b"]
            bed.end(again.handle)
    assert at > 10


def test_an_undelete_cut_short_anywhere_brings_the_name_back_too() -> None:
    at, was_cut_short = 0, True
    while was_cut_short:
        at += 1
        with virtual_world() as clock:
            bed = Bed(MemoryWorld(clock))
            volume = bed.create(ZONE_A)
            bed.delete(volume.handle)
            was_cut_short = bed.is_cut_short(lambda one=bed, it=volume: one.undelete(it.handle), at)  # type: ignore[misc]
            undeleted = bed.undelete(volume.handle)
            assert undeleted.is_named
            assert bed.create(ZONE_A).handle == volume.handle
            bed.end(volume.handle)
    assert at > 5
