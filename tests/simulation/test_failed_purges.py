"""One image whose purge fails in a way that nobody has foreseen holds up no other."""

import pytest

from csi_driver.journal.makers import Makers
from csi_driver.locks import KeyedLocks
from csi_driver.operations import clearing, purge
from csi_driver.operations.pool_tasks import Swept
from csi_driver.operations.site import Site, Sites
from tests.simulation.machine import History
from tests.simulation.process import INSTANCE
from tests.simulation.steps import Create, Delete, Step
from tests.simulation.virtual import virtual_world
from tests.simulation.world import MemoryWorld

VOLUMES = 5


def test_what_fails_is_told_and_all_else_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[str] = []

    def clear(site: Site, uuid: str, locks: KeyedLocks) -> Swept:
        met.append(uuid)
        if uuid == met[0]:
            raise ZeroDivisionError
        return clearing.clear_volume(site, uuid, locks)

    monkeypatch.setattr(purge, "clear_volume", clear)
    with virtual_world() as clock:
        world = MemoryWorld(clock)
        history = History(world)
        history.live([Step(Create(number)) for number in range(VOLUMES)])
        history.live([Step(Delete(number)) for number in range(VOLUMES)])
        sites = Sites(world.machine().clusters, Makers("node", INSTANCE), INSTANCE)
        with pytest.raises(ExceptionGroup) as failed:
            purge.Purger(sites, KeyedLocks())._sweep(world.key)
        assert [type(failure) for failure in failed.value.exceptions] == [ZeroDivisionError]
        assert failed.value.exceptions[0].__notes__ == [f"while {met[0]} was cleared away"]
        assert len(met) == VOLUMES
        assert len(world.place.trash) == 1
