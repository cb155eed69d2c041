"""What a driver that starts has looked through before any call comes."""

import pytest

from csi_driver.ceph.api import Clusters
from csi_driver.errors import AccessDenied
from csi_driver.journal.makers import Makers
from csi_driver.operations.resumption import Resumption
from csi_driver.operations.site import PoolKey, Sites
from tests.memory_ceph.seam import Link
from tests.simulation.process import INSTANCE, Process
from tests.simulation.virtual import Clock, virtual_world
from tests.simulation.world import MemoryWorld


class Start:
    """A process whose start is under test, and in `looked_at` the pools that it had looked at."""

    def __init__(self, clusters: Clusters, *cluster_ids: str) -> None:
        self.looked_at: list[PoolKey] = []
        sites = Sites(clusters, Makers("new", INSTANCE), INSTANCE)
        self.resumption = Resumption(sites, lambda: cluster_ids, self.looked_at.append)

    def look(self) -> float:
        """Seconds until the next look."""
        return self.resumption._look()


def world_with_two_pools(clock: Clock) -> MemoryWorld:
    """In one of them a driver has worked."""
    world = MemoryWorld(clock)
    world.ceph.pools[3] = "of-others"
    Process(world.machine().clusters, "old", world.key).enter()
    return world


def test_the_pools_in_which_a_driver_has_worked_and_no_other() -> None:
    with virtual_world() as clock:
        world = world_with_two_pools(clock)
        start = Start(world.machine().clusters, "dev")
        later = start.look()
        assert start.looked_at == [PoolKey("dev", None, 2)]
        assert not world.ceph.place(3).objects, "nothing is written there"
        start.look()
        assert start.looked_at == [PoolKey("dev", None, 2)] * 2, "for what was given up meanwhile"
        assert later > 600


def test_a_cluster_that_does_not_answer_is_come_back_to_soon_and_hides_no_other() -> None:
    with virtual_world() as clock:
        start = Start(world_with_two_pools(clock).machine().clusters, "unknown", "dev")
        assert start.look() < 60
        assert start.looked_at == [PoolKey("dev", None, 2)]


@pytest.mark.parametrize("denied", ["objects.read:before", "objects.apply:before"])
def test_a_pool_that_the_own_user_may_not_use_waits_for_a_call(denied: str) -> None:
    def deny(point: str, _link: Link) -> None:
        if point == denied:
            raise AccessDenied(point)

    with virtual_world() as clock:
        machine = world_with_two_pools(clock).machine()
        machine.client.at_point = deny
        start = Start(machine.clusters, "dev")
        assert start.look() > 600
        assert start.looked_at == []
