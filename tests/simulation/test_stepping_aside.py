"""The purge leaves the cluster to the calls for a while, and not for ever."""

import pytest

from csi_driver.journal.makers import Makers
from csi_driver.locks import KeyedLocks
from csi_driver.operations.purge import Purger
from csi_driver.operations.site import Sites
from tests.simulation.machine import History
from tests.simulation.process import INSTANCE
from tests.simulation.steps import Create, Delete, Step
from tests.simulation.virtual import Clock, virtual_world
from tests.simulation.world import MemoryWorld

VOLUMES = 5


class Calls:
    """Calls to the cluster that never end."""

    def __init__(self, clock: Clock, world: MemoryWorld, each_s: float) -> None:
        self._clock = clock
        self._world = world
        self._each_s = each_s
        self.waits: list[tuple[str, float, int]] = []
        """For which cluster, for how long at most, and how many deleted volumes were there then."""

    def await_quiet(self, cluster_id: str, _quiet_s: float, timeout_s: float) -> bool:
        self.waits.append((cluster_id, timeout_s, len(self._world.place.trash)))
        self._clock.sleep(min(self._each_s, timeout_s))
        return False


@pytest.mark.parametrize("each_s", [8.0, 100.0])
def test_where_calls_never_end_the_purge_waits_for_so_long_and_goes_on_beside_them(each_s: float) -> None:
    with virtual_world() as clock:
        world = MemoryWorld(clock)
        history = History(world)
        history.live([Step(Create(number)) for number in range(VOLUMES)])
        history.live([Step(Delete(number)) for number in range(VOLUMES)])
        calls = Calls(clock, world, each_s)
        began = clock.monotonic()
        sites = Sites(world.machine().clusters, Makers("node", INSTANCE), INSTANCE)
        Purger(sites, KeyedLocks(), calls.await_quiet)._sweep(world.key)
        assert not world.place.trash
        assert clock.monotonic() - began == calls.waits[0][1] > 0, "the time allowed, in all of it"
        assert [wait[0] for wait in calls.waits] == ["dev"] * len(calls.waits)
        assert calls.waits[0][2] == VOLUMES, "it waits before it begins"
