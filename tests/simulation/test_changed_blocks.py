"""Changed blocks in memory: a snapshot that is deleted while it is looked through is not told as if it were complete."""

import pytest

from csi_driver.ceph.api import Extent
from csi_driver.errors import NotFound
from csi_driver.journal.makers import Makers
from csi_driver.operations.changed_blocks import ChangedBlocks
from csi_driver.operations.site import Sites
from tests.memory_ceph import BLOCK
from tests.simulation import steps as do
from tests.simulation.process import INSTANCE, Process
from tests.simulation.requests import snapshot_spec, volume_spec
from tests.simulation.virtual import virtual_world
from tests.simulation.world import MemoryWorld


@pytest.mark.parametrize("deleted", ["first", "second"])
def test_a_snapshot_deleted_between_two_parts_is_not_found(deleted: str) -> None:
    with virtual_world() as clock:
        world = MemoryWorld(clock)
        process = Process(world.machine().clusters, "node-0", world.key)
        blocks = ChangedBlocks(Sites(world.machine().clusters, Makers("reader", INSTANCE), INSTANCE))
        volume = process.creation.create(volume_spec(world, "volume", do.Create(0), None), None)
        image = f"csi-vol-{volume.handle[-36:]}"
        snapshots = {}
        for number, name in enumerate(("first", "second")):
            world.write(image, 1, number + 1)
            snapshots[name] = process.snapshot_creation.create(snapshot_spec(name, volume.handle), None).handle
        compared = blocks.begin(snapshots["second"], snapshots["first"], 0, None)
        assert blocks.look(compared, 0).found == (Extent(BLOCK, BLOCK),)
        process.snapshot_deletion.delete(snapshots[deleted], None)
        with pytest.raises(NotFound):
            blocks.look(compared, 2 * BLOCK)
