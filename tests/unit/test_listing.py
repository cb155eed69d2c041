"""Listings over an in-memory Ceph: whatever comes and goes between the pages, what lives throughout is told once."""

import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from csi_driver.addresses import ClusterEntry
from csi_driver.ceph.api import Create, Pool, Write
from csi_driver.errors import BadPageToken
from csi_driver.ids import Handle
from csi_driver.journal.layout import State
from csi_driver.journal.makers import Makers
from csi_driver.operations.listing import Listing
from csi_driver.operations.site import Sites
from csi_driver.rpc.page_tokens import parse_token, token_of
from tests.memory_ceph import Client, MemoryCeph, MemoryClusters

SEEDS = range(20)
LONG = "n" * 100
"""A name that does not fit into a token."""


@dataclass
class World:
    """Volumes as the journal keeps them, without their images."""

    ceph: MemoryCeph = field(default_factory=MemoryCeph)

    def __post_init__(self) -> None:
        self.clusters = MemoryClusters(self.ceph, Client())
        self.listing = Listing(Sites(self.clusters, Makers("test", "default"), "default"), lambda: ["dev"])

    def plant(self, name: str, pool_name: str = "rbd", state: State = State.COMPLETE, cluster_id: str = "dev") -> str:
        """Its handle."""
        entry = str(uuid.UUID(int=random.getrandbits(128), version=4))
        request = {"context": {"clusterID": cluster_id}, "source": None}
        keys = {"state": state, "csi.volname": name, "size": "4096", "request": json.dumps(request)}
        with self._pool(pool_name) as pool:
            pool.objects.apply(f"csi.volume.{entry}", Write(Create.EXCLUSIVE, put=keys))
            key = f"csi.volume.{name}"
            pool.objects.apply("csi.volumes.default", Write(Create.ENSURE, put={key: entry}))
            return str(Handle("dev", pool.pool_id, entry))

    def remove(self, name: str, pool_name: str = "rbd") -> None:
        with self._pool(pool_name) as pool:
            entry = pool.objects.read_key("csi.volumes.default", f"csi.volume.{name}")
            pool.objects.apply("csi.volumes.default", Write(drop=(f"csi.volume.{name}",)))
            pool.objects.apply(f"csi.volume.{entry}", Write(remove_object=True))

    def _pool(self, name: str) -> "Opened":
        return Opened(self.clusters, name)

    def pages(self, limit: int) -> Iterator[list[str]]:
        """Handles, page by page, each asked for by the text of its token when the one before has been dealt with."""
        token = ""
        while True:
            page = self.listing.volumes(parse_token(token, ["dev"]), limit)
            yield [one.volume.handle for one in page.items]
            token = token_of(page.last)
            if not token:
                return

    def told(self) -> list[str]:
        (page,) = self.pages(0)
        return page


class Opened:
    """A pool for one `with`."""

    def __init__(self, clusters: MemoryClusters, name: str) -> None:
        self._clusters = clusters
        self._name = name

    def __enter__(self) -> Pool:
        with self._clusters.connect("dev", None) as cluster, cluster.pool(self._name) as pool:
            return pool

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def world() -> World:
    random.seed(7)
    return World()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_lives_throughout_is_told_once_whatever_comes_and_goes(seed: int, world: World) -> None:
    chance = random.Random(seed)
    pools = ("rbd", "second")
    volumes = {
        (pool, f"{chance.choice(('pvc-', 'ä', ''))}{chance.getrandbits(40):010x}"): ""
        for _ in range(60)
        for pool in pools
    }
    for pool, name in volumes:
        volumes[pool, name] = world.plant(name, pool)
    lived, told = set(volumes.values()), list[str]()
    for page in world.pages(chance.randint(1, 30)):
        told += page
        for pool, name in chance.sample(list(volumes), k=min(5, len(volumes))):
            lived.discard(volumes.pop((pool, name)))
            world.remove(name, pool)
        for _ in range(chance.randint(0, 5)):
            world.plant(f"{chance.choice(('a', 'pvc-', 'zz'))}{chance.getrandbits(40):010x}", chance.choice(pools))
    assert len(told) == len(set(told)), f"seed {seed}"
    assert lived <= set(told), f"seed {seed}"


@pytest.mark.parametrize(("count", "limit"), [(0, 1), (1, 1), (6, 3), (7, 3), (2500, 1000)])
def test_pages_have_their_size_and_the_last_no_token(count: int, limit: int, world: World) -> None:
    planted = {world.plant(f"v{number:05}") for number in range(count)}
    sizes = [len(page) for page in world.pages(limit)]
    assert sizes == [limit] * ((count - 1) // limit) + [count - (count - 1) // limit * limit] if count else [0]
    assert set(world.told()) == planted


@pytest.mark.parametrize("state", [state for state in State if state not in (State.COMPLETE, State.FOREIGN)])
def test_what_is_not_handed_out_is_not_told(state: State, world: World) -> None:
    world.plant("other", state=state)
    assert world.told() == []


def test_a_volume_that_lost_its_name_is_told(world: World) -> None:
    """An undelete brings one back whose name is another's by now: it is found by its place in the list of the deleted."""
    handle = world.plant("nameless")
    with Opened(world.clusters, "rbd") as pool:
        deleted = {f"deleted.{handle[-36:]}": ""}
        pool.objects.apply("csi.volumes.default", Write(drop=("csi.volume.nameless",), put=deleted))
    assert world.told() == [handle]


def test_damage_is_passed_by(world: World) -> None:
    """A name without an entry, keys that say nothing, and an entry in a pool that is gone."""
    kept = world.plant("kept")
    odd = {
        "csi.volume.a": str(uuid.UUID(int=1)),
        "csi.volume.b": "",
        "csi.volume.c": f"00000000000000ff/{uuid.UUID(int=2)}",
        "csi.volume.d": "xyz/1",
        "other": "1",
        "deleted.": "",
    }
    with Opened(world.clusters, "rbd") as pool:
        pool.objects.apply("csi.volumes.default", Write(put=odd))
    assert world.told() == [kept]


def test_an_entry_in_another_pool_than_its_name_is_told_once_and_where_it_lies(world: World) -> None:
    """As the Go driver keeps volumes whose journal has a pool of its own."""
    handle = world.plant("apart", "second")
    with Opened(world.clusters, "second") as second, Opened(world.clusters, "rbd") as rbd:
        second.objects.apply("csi.volumes.default", Write(drop=("csi.volume.apart",)))
        value = f"{second.pool_id:016x}/{handle[-36:]}"
        rbd.objects.apply("csi.volumes.default", Write(Create.ENSURE, put={"csi.volume.apart": value}))
    assert world.told() == [handle]


class TwoEntries(MemoryClusters):
    """Two entries of the clusters file that lead to the same place."""

    def entry(self, cluster_id: str) -> ClusterEntry:
        assert cluster_id in ("dev", "dev-2")
        return super().entry("dev")


def test_a_volume_is_told_under_the_entry_under_which_it_was_made(world: World) -> None:
    """Where two of them lead to the same place."""
    ours = world.plant("ours")
    theirs = world.plant("theirs", cluster_id="dev-2").replace("-0003-dev-", "-0005-dev-2-")
    sites = Sites(TwoEntries(world.ceph, Client()), Makers("test", "default"), "default")
    listing = Listing(sites, lambda: ["dev", "dev-2"])
    assert [one.volume.handle for one in listing.volumes(None, 0).items] == [ours, theirs]


@pytest.mark.parametrize("limit", [1, 2])
def test_long_names_have_pages_too(limit: int, world: World) -> None:
    planted = {world.plant(f"{LONG}{number}") for number in range(5)}
    assert {handle for page in world.pages(limit) for handle in page} == planted


def test_a_long_name_that_is_gone_ends_the_listing_with_a_reason(world: World) -> None:
    """Its token names its entry: once that is removed too, the listing is begun again."""
    for number in range(3):
        world.plant(f"{LONG}{number}")
    pages = world.pages(1)
    next(pages)
    world.remove(f"{LONG}0")
    with pytest.raises(BadPageToken, match="begin the listing again"):
        next(pages)
