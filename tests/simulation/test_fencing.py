"""Fencing over an in-memory Ceph: who is cut off, for how long, in which order, and who never is."""

import pytest

from csi_driver.errors import InUse
from csi_driver.ids import Handle
from csi_driver.journal.nodes import NodeRecord
from csi_driver.journal.publications import parse_publications
from csi_driver.locks import KeyedLocks
from csi_driver.operations.fencing import FENCE_S, NodeFencing, fence_client
from csi_driver.operations.listing import Listing
from csi_driver.operations.nodes import OwnPools, forget_node
from csi_driver.operations.publication import VolumePublication
from csi_driver.operations.site import PoolKey
from tests.memory_ceph import Crash
from tests.simulation.test_publication import SHARED, WRITER, Replica, World, at

CLIENT = "10.9.9.9:0/4711"
YEAR_S = 365 * 24 * 3600


class GoneNodes:
    """`Nodes` of an orchestrator that has said of `one` that it is out of service."""

    def find(self, node_id: str) -> NodeRecord | None:
        return NodeRecord(node_id)

    def is_gone(self, node_id: str) -> bool:
        return node_id == "one"


class Fencing(Replica):
    """A process that fences: on unpublish, and by the operator's command."""

    def __init__(self, world: World, *, fence_gone: bool = True) -> None:
        super().__init__(world.ceph)
        self.pools = OwnPools(self.sites, lambda: ["dev"])
        self.publication = VolumePublication(self.sites, KeyedLocks(), GoneNodes(), self.pools, fence_gone=fence_gone)
        listing = Listing(self.sites, lambda: ["dev"])
        self.fencing = NodeFencing(
            self.sites, listing, lambda volume, node: self.publication.unpublish(volume, node, None)
        )


@pytest.fixture
def world() -> World:
    return World()


def attach(world: World, volume: Handle, address: str = CLIENT) -> None:
    image_id = world.pool(volume.pool_id).images.find_id(f"csi-vol-{volume.uuid}") or ""
    world.ceph.images.by_id[image_id].watches[address] = float("inf")


def test_what_is_withdrawn_from_a_gone_node_its_client_is_cut_off_from_for_years(world: World) -> None:
    volume, replica = world.volumes[0], Fencing(world)
    replica.publish(volume, "one")
    attach(world, volume)
    replica.unpublish(volume, "one")
    assert world.published(volume) == []
    assert world.ceph.blocklist == {CLIENT}
    assert world.ceph.cut_off_until[CLIENT] - world.ceph.now() > 19 * YEAR_S
    assert FENCE_S < 1 << 32, "the blocklist counts seconds in 32 bits"


@pytest.mark.parametrize("fence_gone", [True, False])
def test_nobody_else_is_cut_off(world: World, fence_gone: bool) -> None:
    """A node that is there; and, with the setting off, nobody at all."""
    volume, replica = world.volumes[0], Fencing(world, fence_gone=fence_gone)
    node = "two" if fence_gone else "one"
    replica.publish(volume, node)
    attach(world, volume)
    replica.unpublish(volume, node)
    assert world.published(volume) == []
    assert world.ceph.blocklist == set()


def test_the_client_is_cut_off_before_the_record_goes(world: World) -> None:
    """Cut short at any point, the volume is another node's only once the client cannot write any more."""
    for number in range(200):
        one = World()
        volume, dying = one.volumes[0], Fencing(one)
        dying.publish(volume, "one")
        attach(one, volume)
        dying.client.at_point = at(number, lambda _link, dying=dying: dying.client.die("here"))  # type: ignore[misc]
        try:
            dying.unpublish(volume, "one")
        except Crash:
            assert one.published(volume) == ["one"] or one.ceph.blocklist == {CLIENT}
            living = Fencing(one)
            living.unpublish(volume, "one")
            assert one.published(volume) == one.claimed(volume) == []
            assert one.ceph.blocklist == {CLIENT}
        else:
            assert number > 5
            return
    pytest.fail("the unpublish never came to its end")


def test_the_drivers_own_connections_are_never_cut_off(world: World) -> None:
    """Neither this process's nor another replica's, which may have the image open for a snapshot."""
    volume, other, replica = world.volumes[0], Replica(world.ceph), Fencing(world)
    for one in (other, replica):
        with one.sites.open(PoolKey("dev", None, volume.pool_id), as_maker=True) as site:
            attach(world, volume, site.cluster.address)
    attach(world, volume)
    replica.publish(volume, "one")
    replica.unpublish(volume, "one")
    assert world.ceph.blocklist == {CLIENT}


def test_a_reader_and_a_shared_volume_are_not_fenced(world: World) -> None:
    """The one writes nothing; of the other Ceph does not tell whose client is whose, and the answer says so."""
    read, shared, _ = world.volumes
    replica = Fencing(world)
    replica.publish(read, "one", WRITER, read_only=True)
    for node in ("one", "two"):
        replica.publish(shared, node, SHARED)
    for volume in (read, shared):
        attach(world, volume)
    with replica.sites.open_of(shared, None) as site:
        entry = site.journal.load(shared.uuid)
        assert entry
        with pytest.raises(InUse, match="two"):
            fence_client(site, entry, parse_publications(entry.publications), "one")
    for volume in (read, shared):
        replica.unpublish(volume, "one")
    assert world.published(shared) == ["two"]
    assert world.ceph.blocklist == set()


def test_the_operator_fences_all_that_a_node_has_and_forgets_it(world: World) -> None:
    first, second, third = world.volumes
    replica = Fencing(world, fence_gone=False)
    for volume, node in ((first, "one"), (second, "one"), (third, "two")):
        replica.publish(volume, node)
    attach(world, first)
    attach(world, third, "10.9.9.9:0/2")
    assert {one.volume_id: one.addresses for one in replica.fencing.fence("one")} == {
        str(first): (CLIENT,),
        str(second): (),
    }
    assert [world.published(volume) for volume in world.volumes] == [[], [], ["two"]]
    assert world.ceph.blocklist == {CLIENT}
    assert list(replica.fencing.fence("one")) == []
    assert forget_node(replica.pools, "one")
    assert not forget_node(replica.pools, "one")


def test_what_the_operator_cannot_fence_is_left_to_the_node_and_told(world: World) -> None:
    shared, alone, _ = world.volumes
    replica = Fencing(world, fence_gone=False)
    for node in ("one", "two"):
        replica.publish(shared, node, SHARED)
    replica.publish(alone, "one")
    attach(world, shared)
    troubles = {one.volume_id: one.trouble for one in replica.fencing.fence("one")}
    assert troubles[str(alone)] == ""
    assert "two" in troubles[str(shared)]
    assert world.published(shared) == ["one", "two"]
    assert world.ceph.blocklist == set()
