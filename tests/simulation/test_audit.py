"""The audit over the in-memory Ceph: what only a killed librbd leaves is found, and what is well is not."""

import pytest

from csi_driver.ceph.api import ImageMissing, Write
from csi_driver.journal.makers import Makers
from csi_driver.model import FlattenMode
from csi_driver.operations.audit.findings import Finding, FindingClass
from csi_driver.operations.audit.repair import repair
from csi_driver.operations.audit.rules import findings
from csi_driver.operations.audit.survey import survey
from csi_driver.operations.site import Site, Sites
from tests.simulation.machine import History
from tests.simulation.steps import Crash, Create, Delete, Flatten, Snapshot, Step
from tests.simulation.virtual import virtual_world
from tests.simulation.world import MemoryWorld


def audited(site: Site) -> list[Finding]:
    return list(findings(survey(site, lambda _what, _number, _of: None)))


def test_volumes_snapshots_copies_and_what_waits_for_its_purge_are_no_findings() -> None:
    with virtual_world() as clock:
        world = MemoryWorld(clock)
        history = History(world)
        history.live(
            [
                Step(Create(0)),
                Step(Snapshot(0, 0)),
                Step(Create(1, source=0)),
                Step(Create(2, source=1)),
                Step(Create(3, source=0, mode=FlattenMode.ALWAYS)),
                Step(Delete(0)),
            ]
        )
        with Sites(world.machine().clusters, Makers("operator", "default"), "default").open(world.key) as site:
            assert audited(site) == []


def test_what_another_instance_has_in_the_pool_is_no_finding() -> None:
    """Living, deleted and kept: it has a directory of its own, and a repair would give its volumes to this one."""
    with virtual_world() as clock:
        world = MemoryWorld(clock)
        history = History(world)
        history.live([Step(Create(0)), Step(Snapshot(0, 0)), Step(Create(1, source=0)), Step(Delete(0))])
        with Sites(world.machine().clusters, Makers("operator", "other"), "other").open(world.key) as site:
            assert audited(site) == []


def test_a_flatten_that_was_cut_short_past_the_driver_is_found_and_the_image_opens_again() -> None:
    """Without an entry of the driver's queue nobody but a person can tell it from a clone that is half made."""
    with virtual_world() as clock:
        world = MemoryWorld(clock)
        history = History(world)
        history.live(
            [
                Step(Create(0)),
                Step(Create(1, source=0, mode=FlattenMode.ALWAYS)),
                Step(Flatten(), fault=Crash("images.flatten:unlinked")),
            ]
        )
        with Sites(world.machine().clusters, Makers("operator", "default"), "default").open(world.key) as site:
            (queued,) = site.flatten_queue.entries()
            with pytest.raises(ImageMissing):
                site.pool.images.inspect_id(queued.image_id)
            assert audited(site) == []  # the driver's own worker comes to it
            site.pool.objects.apply("csi.flatten.default", Write(drop=(queued.image_id,)))
            (found,) = audited(site)
            assert (found.what, found.uuid) == (FindingClass.CUT_OFF_PARENT, queued.uuid)
            repair(site, found)
            assert audited(site) == []
            assert not site.pool.images.inspect_id(queued.image_id).has_parent
