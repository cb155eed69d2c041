"""A rebuild in memory: cut short at every point that there is, and names whose keys are in another pool."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count

from csi_driver.ceph.api import Pool, Write
from csi_driver.claims import Claims, SnapshotClaim, VolumeClaim
from csi_driver.ids import Handle
from csi_driver.journal.layout import SNAPSHOTS, VOLUMES
from csi_driver.journal.makers import Makers
from csi_driver.operations.audit.rules import findings
from csi_driver.operations.audit.survey import survey
from csi_driver.operations.rebuild.rebuilder import Lost, Rebuilder
from csi_driver.operations.rebuild.restoration import Act
from csi_driver.operations.site import Sites
from tests.memory_ceph import Crash
from tests.memory_ceph.seam import Link
from tests.simulation.machine import History
from tests.simulation.steps import Create, Snapshot, Step
from tests.simulation.virtual import virtual_world
from tests.simulation.world import MemoryMachine, MemoryWorld


def rebuilder(machine: MemoryMachine) -> Rebuilder:
    return Rebuilder(Sites(machine.clusters, Makers("operator", "default"), "default"))


@dataclass
class Scene:
    """A volume, its snapshot and a copy of it; what is known of them, and what the journal said."""

    world: MemoryWorld
    claims: Claims
    before: dict[str, str]

    def lost(self, machine: MemoryMachine) -> list[Lost]:
        return list(rebuilder(machine).look(self.world.key, self.claims, lambda _what, _number, _of: None))

    def rebuild(self, machine: MemoryMachine) -> None:
        for one in self.lost(machine):
            if one.wanted.is_possible:
                rebuilder(machine).restore(one)


@contextmanager
def scene() -> Iterator[Scene]:
    with virtual_world() as clock:
        world = MemoryWorld(clock)
        History(world).live([Step(Create(0)), Step(Snapshot(0, 0)), Step(Create(1, source=1))])
        before = names(world.pool)
        volumes = (VolumeClaim(Handle("dev", 2, uuid), name) for name, uuid in before.items() if name[0] == "v")
        snapshots = (SnapshotClaim(Handle("dev", 2, uuid), name) for name, uuid in before.items() if name[0] == "s")
        yield Scene(world, Claims(tuple(volumes), tuple(snapshots)), before)


def names(pool: Pool) -> dict[str, str]:
    """Uuids by request name."""
    found: dict[str, str] = {}
    for kind in (VOLUMES, SNAPSHOTS):
        keys = pool.objects.read(kind.directory("default")) or {}
        prefix = kind.object_prefix
        found |= {key.removeprefix(prefix): uuid for key, uuid in keys.items() if key.startswith(prefix)}
    return found


def lose(pool: Pool) -> None:
    for name in list(pool.objects.names()):
        if name.startswith(("csi.volume", "csi.snap")):
            pool.objects.apply(name, Write(remove_object=True))


def test_a_rebuild_that_is_cut_short_at_any_point_is_ended_by_the_next() -> None:
    for number in count(1):
        with scene() as here:
            lose(here.world.pool)
            machine, passed = here.world.machine(), 0

            def at_point(point: str, _link: Link, machine: MemoryMachine = machine, number: int = number) -> None:
                nonlocal passed
                passed += 1
                if passed == number:
                    machine.die()
                    raise Crash(point)

            with suppress(Crash), machine.interrupted(at_point):
                here.rebuild(machine)
            here.rebuild(here.world.machine())
            assert here.lost(here.world.machine()) == [], number
            assert names(here.world.pool) == here.before, number
            sites = Sites(here.world.machine().clusters, Makers("operator", "default"), "default")
            with sites.open(here.world.key) as site:
                assert list(findings(survey(site, lambda _what, _number, _of: None))) == [], number
        if passed < number:
            assert number > 30
            return


def test_a_name_goes_back_to_the_pool_that_had_it() -> None:
    with scene() as here:
        lose(here.world.pool)
        other_id, other = 3, here.world.ceph.pools[3]
        claim = replace(here.claims.volumes[0], journal_pool=other)
        here.claims = Claims((claim,))
        assert [one.wanted.act for one in here.lost(here.world.machine()) if one.wanted.claim] == [Act.ENTRY]
        here.rebuild(here.world.machine())
        entry = here.world.pool.objects.read(VOLUMES.object(claim.handle.uuid)) or {}
        assert entry["csi.journalpool"] == f"{other_id:016x}"
        key = VOLUMES.name_key(claim.request_name)
        directory = here.world.ceph.place(other_id).objects[VOLUMES.directory("default")]
        assert directory[key] == f"{2:016x}/{claim.handle.uuid}"
        assert [one for one in here.lost(here.world.machine()) if one.wanted.claim] == []
