"""A create that is repeated reads as little as it may, and answers with the volume that its name leads to now."""

from csi_driver.ids import Handle
from csi_driver.journal.makers import Makers
from csi_driver.model import AccessMode, Capability, CapacityRange, ImageLayout, Volume, VolumeSpec
from csi_driver.operations.site import Sites
from csi_driver.operations.undeletion import VolumeUndeletion
from tests.memory_ceph import BLOCK
from tests.memory_ceph.seam import Link
from tests.simulation.process import INSTANCE, Process
from tests.simulation.virtual import virtual_world
from tests.simulation.world import MemoryWorld

SPEC = VolumeSpec(
    name="pvc",
    cluster_id="dev",
    pool="rbd",
    capacity=CapacityRange(BLOCK),
    size_bytes=BLOCK,
    capabilities=(Capability(AccessMode.SINGLE_NODE_WRITER, is_block=True),),
    layout=ImageLayout(("layering", "exclusive-lock")),
)


def create(process: Process) -> Volume:
    return process.creation.create(SPEC, None)


def test_for_what_this_process_made_itself_the_entry_alone_is_read() -> None:
    with virtual_world() as clock:
        world = MemoryWorld(clock)
        machine = world.machine()
        process = Process(machine.clusters, "node", world.key)
        volume = create(process)
        calls: list[str] = []

        def at_point(point: str, _link: Link) -> None:
            calls.append(point.partition(":")[0])

        with machine.interrupted(at_point):
            assert create(process).handle == volume.handle
        assert [call for call in dict.fromkeys(calls) if call.startswith(("objects.", "images."))] == ["objects.read"]


def test_a_volume_that_was_brought_back_without_its_name_is_not_its_names_answer() -> None:
    """Deleted and undeleted past this process, which made it: meanwhile another has made another volume of that name."""
    with virtual_world() as clock:
        world = MemoryWorld(clock)
        first, second = (Process(world.machine().clusters, name, world.key) for name in ("node-1", "node-2"))
        old = create(first)
        second.deletion.delete(str(old.handle), None)
        new = create(second)
        handle = Handle.parse(str(old.handle))
        assert handle
        sites = Sites(world.machine().clusters, Makers("operator", INSTANCE), INSTANCE)
        assert not VolumeUndeletion(sites).undelete(handle).is_named
        assert create(first).handle == new.handle != old.handle
