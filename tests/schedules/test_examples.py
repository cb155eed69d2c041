"""Schedules that once broke a rule, in their shortest form."""

import pytest

from tests.schedules.faults import Fault, Kind
from tests.schedules.schedule import Operation, Schedule, Switch
from tests.schedules.trial import run
from tests.schedules.turns import Turns
from tests.simulation.steps import Create, Delete, Flatten, Snapshot, Sweep

EXAMPLES = {
    "a pool is full while what another create began is cleared away": Schedule(
        scene="a half made volume",
        operations=(Operation(Create(0), replica=0),),
        switches=(),
        fault=Fault("images.remove:before", nth=1, kind=Kind.ENOSPC),
    ),
    "a pool is full when a volume that another create began is taken over": Schedule(
        scene="a half made volume",
        operations=(Operation(Create(0), replica=0),),
        switches=(),
        fault=Fault("objects.apply:before", nth=1, kind=Kind.ENOSPC),
    ),
    "a pool is full when a snapshot is cut and not yet complete": Schedule(
        scene="a half flattened copy",
        operations=(Operation(Snapshot(5, volume=1), replica=1),),
        switches=(),
        fault=Fault("objects.apply:before", nth=3, kind=Kind.ENOSPC),
    ),
    "of two creates of one name one finds the source gone, and the other is cut short": Schedule(
        scene="a half deleted snapshot",
        operations=(
            Operation(Create(5, source=0), replica=1),
            Operation(Delete(0), replica=2),
            Operation(Create(5, source=0), replica=0),
        ),
        switches=(Switch(1, to=1), Switch(1, to=1), Switch(7, to=1), Switch(4, to=1), Switch(7, to=1)),
        fault=Fault("images.clone:after", nth=1, kind=Kind.EIO),
        first=2,
    ),
}
SHRUNK_SOURCE = Schedule(
    scene="a half made copy",
    operations=(
        Operation(Create(4, source=0, extra_blocks=1, has_deep_flatten=False), replica=1),
        Operation(Delete(0), replica=0),
        Operation(Sweep(), replica=1),
    ),
    switches=(Switch(5, to=1), Switch(5, to=1)),
    fault=Fault("objects.apply:after", nth=3, kind=Kind.TIMEOUT),
    order=10858,
)
OVERTAKEN_WORKER = Schedule(
    scene="a plain copy to be flattened",
    operations=(Operation(Flatten(), replica=1), Operation(Flatten(), replica=2)),
    switches=(Switch(8, to=0, is_long=True),),
    fault=Fault("images.flatten:pinned", nth=1, kind=Kind.CRASH),
    first=1,
    order=30099,
)
OVERTAKEN_PURGE = Schedule(
    scene="a deleted volume",
    operations=(Operation(Sweep(), replica=0), Operation(Sweep(), replica=1)),
    switches=(Switch(16, to=0, is_long=True), Switch(16, to=0), Switch(3, to=0), Switch(2, to=0)),
    fault=Fault("images.purge:before", nth=9, kind=Kind.EBUSY),
)


@pytest.mark.parametrize("schedule", EXAMPLES.values(), ids=EXAMPLES)
def test_a_schedule_that_broke_a_rule_breaks_none(schedule: Schedule) -> None:
    outcome = run(schedule, Turns(), clones_format_2=True)
    assert outcome.failure is None
    assert outcome.struck == (schedule.fault.point, schedule.fault.kind)


def test_a_copy_of_a_volume_that_was_deleted_and_shrunk_meanwhile_is_refused() -> None:
    """It read zeros. With clones of format 2 the trashed snap does not hold the tombstone, and none of this comes about."""
    assert run(SHRUNK_SOURCE, Turns(), clones_format_2=False).failure is None


def test_a_flatten_worker_that_was_overtaken_leaves_its_successor_on_the_record() -> None:
    """It wrote its own address over the other's, whose image then seemed to be in use by a client."""
    outcome = run(OVERTAKEN_WORKER, Turns(), clones_format_2=False)
    assert outcome.failure is None
    assert outcome.struck == (OVERTAKEN_WORKER.fault.point, Kind.CRASH)


def test_a_purge_that_was_overtaken_does_not_lock_what_the_other_removes() -> None:
    """The lock that it asked for made the header anew, which nothing led to. No fault is met: standing still was enough."""
    outcome = run(OVERTAKEN_PURGE, Turns(), clones_format_2=True)
    assert outcome.failure is None
    assert (1, "cluster.blocklist:after") in outcome.trace
