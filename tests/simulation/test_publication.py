"""Publishing over an in-memory Ceph: cut short at every point, and two replicas interleaved at every point.

Whatever was cut short, the repeated call ends with O and the node's claims saying the same.
"""

import itertools
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from csi_driver.ceph.api import Create, Pool, Write
from csi_driver.errors import Busy, InUse, NoSpace, NotFound
from csi_driver.ids import Handle
from csi_driver.journal.makers import Makers
from csi_driver.journal.nodes import CLAIM_GRACE_S, NodeClaims, NodeRecord
from csi_driver.journal.publications import parse_publications
from csi_driver.locks import KeyedLocks
from csi_driver.model import AccessMode, Capability, ImageLayout
from csi_driver.operations.deletion import VolumeDeletion
from csi_driver.operations.nodes import NodeRegistration, OwnPools, RegisteredNodes
from csi_driver.operations.publication import PublishRequest, VolumePublication
from csi_driver.operations.site import Sites
from tests.memory_ceph import Client, Crash, MemoryCeph, MemoryClusters
from tests.memory_ceph.seam import Link

WRITER = Capability(AccessMode.SINGLE_NODE_WRITER, is_block=True)
SHARED = Capability(AccessMode.MULTI_NODE_MULTI_WRITER, is_block=True)
LIMIT = 2


class Replica:
    """One process of the driver."""

    def __init__(self, ceph: MemoryCeph) -> None:
        self.client = Client()
        self.sites = Sites(MemoryClusters(ceph, self.client), Makers(f"replica-{ceph.number()}", "default"), "default")
        pools = OwnPools(self.sites, lambda: ["dev"])
        locks = KeyedLocks()
        self.publication = VolumePublication(self.sites, locks, RegisteredNodes(pools), pools)
        self.deletion = VolumeDeletion(self.sites, locks, lambda _key: None)

    def publish(self, volume: Handle, node: str, capability: Capability = WRITER, *, read_only: bool = False) -> None:
        self.publication.publish(PublishRequest(str(volume), node, capability, read_only, None))

    def unpublish(self, volume: Handle, node: str) -> None:
        self.publication.unpublish(str(volume), node, None)


@dataclass
class World:
    """Volumes in two pools, and two nodes."""

    ceph: MemoryCeph = field(default_factory=MemoryCeph)

    def __post_init__(self) -> None:
        looking = Replica(self.ceph)
        for node in ("one", "two"):
            assert NodeRegistration(looking.sites, lambda: ["dev"], NodeRecord(node, LIMIT)).register()
        self._clusters = MemoryClusters(self.ceph, Client())
        self.volumes = [self._plant(pool_id) for pool_id in (2, 3, 2)]

    def pool(self, pool_id: int) -> Pool:
        with self._clusters.connect("dev", None) as cluster, cluster.pool(pool_id) as pool:
            return pool

    def _plant(self, pool_id: int) -> Handle:
        entry = str(uuid.uuid4())
        pool, image = self.pool(pool_id), f"csi-vol-{entry}"
        pool.images.create(image, 1 << 20, ImageLayout(("layering",)))
        keys = {"state": "complete", "csi.volname": entry, "size": str(1 << 20), "request": json.dumps({})}
        keys["csi.imageid"] = pool.images.find_id(image) or ""
        pool.objects.apply(f"csi.volume.{entry}", Write(Create.EXCLUSIVE, put=keys))
        pool.objects.apply("csi.volumes.default", Write(Create.ENSURE, put={f"csi.volume.{entry}": entry}))
        return Handle("dev", pool_id, entry)

    def published(self, volume: Handle) -> list[str]:
        """By O."""
        keys = self.pool(volume.pool_id).objects.read(f"csi.volume.{volume.uuid}") or {}
        return sorted(parse_publications(keys.get("publications", "")))

    def claimed(self, volume: Handle) -> list[str]:
        """By the nodes' claims."""
        pool = self.pool(volume.pool_id)
        return [node for node in ("one", "two") if NodeClaims(pool, "default", node).find(volume.uuid)]


Do = Callable[[Replica, Handle], None]
PUBLISH: Do = lambda replica, volume: replica.publish(volume, "one")  # noqa: E731
UNPUBLISH: Do = lambda replica, volume: replica.unpublish(volume, "one")  # noqa: E731
DELETE: Do = lambda replica, volume: replica.deletion.delete(str(volume), None)  # noqa: E731
UNPUBLISH_ALL: Do = lambda replica, volume: replica.unpublish(volume, "")  # noqa: E731


def points(prepare: Do | None, action: Do) -> list[int]:
    """The number of every point of a call."""
    world, reached = World(), list[str]()
    replica = Replica(world.ceph)
    if prepare:
        prepare(replica, world.volumes[0])
    replica.client.at_point = lambda point, _link: reached.append(point)
    action(replica, world.volumes[0])
    return list(range(len(reached)))


def at(number: int, then: Callable[[Link], None]) -> Callable[[str, Link], None]:
    """Does something at the point of that number, once."""
    reached = itertools.count()

    def look(_point: str, link: Link) -> None:
        if next(reached) == number:
            then(link)

    return look


def cut_short(replica: Replica, number: int, action: Callable[[], None]) -> None:
    replica.client.at_point = at(number, lambda _link: replica.client.die("here"))
    with pytest.raises(Crash):
        action()


@pytest.mark.parametrize("number", points(None, PUBLISH))
@pytest.mark.parametrize("then", ["publish", "unpublish", "elsewhere"])
def test_a_publish_that_is_cut_short_is_finished_or_withdrawn(number: int, then: str) -> None:
    """By the repeated call, an unpublish, or, where nothing was recorded yet, a publish to another node."""
    world = World()
    volume = world.volumes[0]
    dying, living = Replica(world.ceph), Replica(world.ceph)
    cut_short(dying, number, lambda: dying.publish(volume, "one"))
    if then == "elsewhere":
        living.unpublish(volume, "one")
        living.publish(volume, "two")
        expected = ["two"]
    elif then == "publish":
        living.publish(volume, "one")
        expected = ["one"]
    else:
        living.unpublish(volume, "one")
        expected = []
    assert world.published(volume) == world.claimed(volume) == expected


@pytest.mark.parametrize("action", [UNPUBLISH, UNPUBLISH_ALL], ids=["one", "all"])
@pytest.mark.parametrize("number", points(PUBLISH, UNPUBLISH))
def test_an_unpublish_that_is_cut_short_is_finished(number: int, action: Do) -> None:
    world = World()
    volume = world.volumes[0]
    dying, living = Replica(world.ceph), Replica(world.ceph)
    living.publish(volume, "one")
    cut_short(dying, number, lambda: action(dying, volume))
    UNPUBLISH(living, volume)
    assert world.published(volume) == world.claimed(volume) == []


@pytest.mark.parametrize("number", points(None, PUBLISH))
def test_of_two_replicas_that_publish_one_volume_one_node_wins(number: int) -> None:
    """Whenever the second comes; the one that lost has no claim, and the other's is counted."""
    world = World()
    volume = world.volumes[0]
    one, two = Replica(world.ceph), Replica(world.ceph)
    won: list[str] = []
    refused = "'two'"

    def second(_link: Link) -> None:
        try:
            two.publish(volume, "two")
            won.append("two")
        except InUse:
            pass

    one.client.at_point = at(number, second)
    try:
        one.publish(volume, "one")
        won.append("one")
    except InUse as refusal:
        refused = str(refusal)
    assert len(won) == 1
    assert "'two'" in refused, "the first node is named"
    assert world.published(volume) == world.claimed(volume) == won


@pytest.mark.parametrize("number", points(PUBLISH, UNPUBLISH))
def test_an_unpublish_takes_no_claim_of_the_publish_that_comes_in_between(number: int) -> None:
    """What is published in the end is counted, and what is not is not."""
    world = World()
    volume = world.volumes[0]
    one, two = Replica(world.ceph), Replica(world.ceph)
    one.publish(volume, "one")
    one.client.at_point = at(number, lambda _link: two.publish(volume, "one"))
    one.unpublish(volume, "one")
    assert world.published(volume) == world.claimed(volume)


@pytest.mark.parametrize("number", points(None, PUBLISH))
def test_a_publish_counts_right_whatever_is_unpublished_in_between(number: int) -> None:
    world = World()
    volume = world.volumes[0]
    one, two = Replica(world.ceph), Replica(world.ceph)
    one.client.at_point = at(number, lambda _link: two.unpublish(volume, "one"))
    one.publish(volume, "one")
    assert world.published(volume) == world.claimed(volume)


@pytest.mark.parametrize("number", points(None, PUBLISH))
def test_two_replicas_never_pass_a_nodes_limit(number: int) -> None:
    """Over all pools. When both come for the last place at once it may be that neither gets it, and asks again."""
    world = World()
    first, second, third = world.volumes
    one, two = Replica(world.ceph), Replica(world.ceph)
    one.publish(first, "one")
    refused: list[str] = []

    def other(_link: Link) -> None:
        try:
            two.publish(third, "one")
        except NoSpace as full:
            refused.append(str(full))

    one.client.at_point = at(number, other)
    try:
        one.publish(second, "one")
    except NoSpace as full:
        refused.append(str(full))
    has = [volume for volume in world.volumes if world.published(volume)]
    assert len(has) <= LIMIT
    assert refused
    assert "at most 2" in refused[0]
    assert has == [volume for volume in world.volumes if world.claimed(volume)]


def test_a_place_that_a_crash_took_is_free_again_after_its_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before: a publish that is only slow keeps its place."""
    world = World()
    first, second, third = world.volumes
    replica = Replica(world.ceph)
    pool = world.pool(third.pool_id)
    old = f"claimed {1000 - CLAIM_GRACE_S - 1:.0f} token"
    claims = NodeClaims(pool, "default", "one")
    replica.publish(first, "one")
    monkeypatch.setattr("csi_driver.journal.nodes.time.time", lambda: 1000.0)
    claims.claim(third.uuid)
    with pytest.raises(NoSpace):
        replica.publish(second, "one")
    for value in (old, "held token"):
        pool.objects.apply("csi.node.default.one", Write(put={third.uuid: value}))
        replica.publish(second, "one")
        assert world.claimed(third) == []
        replica.unpublish(second, "one")


def test_what_is_unknown_is_not_there_and_what_is_gone_is_not_published() -> None:
    world = World()
    volume = world.volumes[0]
    replica = Replica(world.ceph)
    for unknown in (Handle("dev", 2, volume.uuid[::-1]), Handle("dev", 99, volume.uuid)):
        with pytest.raises(NotFound):
            replica.publish(unknown, "one")
        replica.unpublish(unknown, "one")
    with pytest.raises(NotFound, match="'three'"):
        replica.publish(volume, "three")
    replica.unpublish(volume, "three")
    assert world.published(volume) == world.claimed(volume) == []


def test_a_volume_that_several_nodes_share_leaves_all_of_them_at_once() -> None:
    world = World()
    volume = world.volumes[0]
    replica = Replica(world.ceph)
    for node in ("one", "two"):
        replica.publish(volume, node, SHARED)
    assert world.published(volume) == world.claimed(volume) == ["one", "two"]
    replica.unpublish(volume, "")
    assert world.published(volume) == world.claimed(volume) == []


def test_a_published_volume_is_not_deleted() -> None:
    world = World()
    volume = world.volumes[0]
    one, two = Replica(world.ceph), Replica(world.ceph)
    one.publish(volume, "one")
    with pytest.raises(InUse, match="one"):
        DELETE(two, volume)
    assert world.published(volume) == ["one"]
    one.unpublish(volume, "one")
    DELETE(two, volume)
    UNPUBLISH(one, volume)


@pytest.mark.parametrize("number", points(None, DELETE))
def test_a_publish_that_meets_a_delete_wins_or_finds_nothing(number: int) -> None:
    world = World()
    volume = world.volumes[0]
    one, two = Replica(world.ceph), Replica(world.ceph)
    outcome: list[str] = []

    def publish(_link: Link) -> None:
        try:
            PUBLISH(two, volume)
            outcome.append("published")
        except NotFound:
            pass

    one.client.at_point = at(number, publish)
    try:
        DELETE(one, volume)
        outcome.append("deleted")
    except (InUse, Busy):
        pass
    assert len(outcome) == 1
    assert world.published(volume) == world.claimed(volume) == (["one"] if outcome == ["published"] else [])
