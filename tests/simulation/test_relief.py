"""Snaps that only copies hold are worked off, the oldest first, by flattening the copies that this helps."""

from collections.abc import Sequence

from csi_driver.ceph.api import SnapKind
from csi_driver.journal.flatten_queue import FlattenQueue
from csi_driver.model import FlattenMode
from tests.simulation.ending import end
from tests.simulation.machine import History
from tests.simulation.process import INSTANCE
from tests.simulation.steps import Action, Create, Flatten, Snapshot, Step
from tests.simulation.virtual import RELIEF_AT, virtual_world
from tests.simulation.world import MemoryWorld


def live(history: History, actions: Sequence[Action]) -> None:
    history.live([Step(action) for action in actions])


def queued(history: History) -> list[str]:
    """Names of the volumes that wait for a flatten, in their order."""
    names = {known.handle[-36:]: name for name, known in history.model.volumes.items()}
    return [names[entry.uuid] for entry in FlattenQueue(history.world.pool, INSTANCE).entries()]


def trashed_snaps(history: History) -> int:
    image = history.invariants.volume_entry(history.model.volumes["volume-0"].handle).image_name
    return sum(snap.kind is SnapKind.TRASH for snap in history.world.pool.images.inspect(image).snaps)


def test_from_a_number_of_snaps_on_the_oldest_copies_are_flattened_and_their_snaps_go() -> None:
    with virtual_world() as clock:
        history = History(MemoryWorld(clock))
        live(history, [Create(0), *(Create(number, source=0) for number in range(1, RELIEF_AT))])
        assert queued(history) == []
        live(history, [Create(RELIEF_AT, source=0)])
        assert queued(history) == [f"volume-{number}" for number in range(1, RELIEF_AT)]
        (notice,) = history.nodes[0].process.notices
        assert (notice.volume_name, notice.reason, notice.is_warning) == ("volume-0", "ManySnapshots", True)
        assert f"{RELIEF_AT} snapshots" in notice.message
        live(history, [Snapshot(0, 0)])
        assert queued(history) == [f"volume-{number}" for number in range(1, RELIEF_AT + 1)]
        live(history, [Flatten()])
        assert trashed_snaps(history) == 0
        end(history, order=0)


def test_a_copy_that_would_keep_its_snap_or_must_not_be_flattened_is_passed_over() -> None:
    """Without deep-flatten, and with a snapshot of its own; and one whose class says never."""
    with virtual_world() as clock:
        history = History(MemoryWorld(clock))
        copies = [
            Create(1, source=0, has_deep_flatten=False),
            Create(2, source=0, mode=FlattenMode.NEVER),
            Create(3, source=0, has_deep_flatten=False),
        ]
        live(history, [Create(0), *copies, Snapshot(0, 1), Create(4, source=0), Snapshot(1, 0), Snapshot(2, 0)])
        assert queued(history) == ["volume-3", "volume-4"]
        live(history, [Flatten()])
        assert trashed_snaps(history) == 2
        end(history, order=0)


def test_a_snap_that_lists_a_copy_by_mistake_goes_where_no_flatten_would_free_one() -> None:
    """The copy has lost its link, and reads what it read."""
    with virtual_world() as clock:
        world = MemoryWorld(clock)
        history = History(world)
        kept = (Create(number, source=0, mode=FlattenMode.NEVER) for number in (2, 3))
        live(history, [Create(0), Create(1, source=0), *kept])
        copy = history.invariants.volume_entry(history.model.volumes["volume-1"].handle)
        stored = world.ceph.images.by_id[copy.image_id]
        world.ceph.images.copy_up(stored, stored)
        history.world.pool.ancestry.drop_parent(copy.image_id)
        assert trashed_snaps(history) == 3
        live(history, [Snapshot(0, 0)])
        assert trashed_snaps(history) == 2
        end(history, order=0)
