"""The cluster, connections to it, and the pools opened on them."""

import itertools
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from threading import RLock

from csi_driver.addresses import ClusterEntry, Credentials, ImageAddress
from csi_driver.ceph.api import (
    DAY_S,
    Ancestry,
    Cluster,
    Clusters,
    Groups,
    HealthCheck,
    Images,
    Leases,
    Objects,
    Pool,
    PoolUsage,
)
from csi_driver.errors import ClusterUnavailable, InvalidRequest, PoolMissing
from tests.memory_ceph import state
from tests.memory_ceph.ancestry import MemoryAncestry
from tests.memory_ceph.groups import MemoryGroups
from tests.memory_ceph.objects import MemoryObjects
from tests.memory_ceph.seam import Client, Crash, Link, seam
from tests.memory_ceph.snaps import MemoryImages

FREE_BYTES = 1 << 40
"""What a pool has room for, unless the test says otherwise."""
WATCH_S = 30.0
"""How long the watch of a client lasts that died (osd_client_watch_timeout)."""


_MAKING_CALLS = ("images.create", "images.clone", "groups.create")


class MemoryCeph:
    """One cluster. clones_format_2: whether its oldest clients allow that. now: its clock, in seconds since the epoch."""

    def __init__(
        self,
        pools: Mapping[int, str] | None = None,
        *,
        clones_format_2: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.pools = dict(pools or {2: "rbd", 3: "second", 4: "data"})
        self.clones_format_2 = clones_format_2
        self.now = now
        self.guard: AbstractContextManager[object] = RLock()
        self.images = state.Images()
        self.blocklist: set[str] = set()
        self.cut_off_until: dict[str, float] = {}
        """Only for whoever asks: no client comes back here."""
        self.usage: dict[str, PoolUsage] = {}
        self._places: dict[tuple[int, str], state.Place] = {}
        self._numbers = itertools.count(1)

    def save(self) -> bytes:
        """All that stands in the cluster, for `restore`."""
        number = self.number()
        return pickle.dumps((self.images, self._places, self.blocklist, self.cut_off_until, number))

    def restore(self, saved: bytes) -> None:
        """Before anybody has connected."""
        self.images, self._places, self.blocklist, self.cut_off_until, number = pickle.loads(saved)
        self._numbers = itertools.count(number)

    def number(self) -> int:
        """For ids and addresses: each once."""
        return next(self._numbers)

    def place(self, pool_id: int, namespace: str = "") -> state.Place:
        return self._places.setdefault((pool_id, namespace), state.Place(pool_id, namespace))

    def watchers(self, image: state.StoredImage) -> tuple[str, ...]:
        """Addresses; the watch of a client that is on the blocklist or long dead is gone."""
        now = self.now()
        return tuple(address for address, ends in image.watches.items() if ends > now and address not in self.blocklist)


class Connection:
    """`Cluster` of one client."""

    def __init__(self, ceph: MemoryCeph, client: Client, entry: ClusterEntry, credentials: Credentials) -> None:
        self.ceph = ceph
        self.entry = entry
        self.user = credentials.user
        self.address = f"10.0.0.1:0/{ceph.number()}"
        self.making_address = f"10.0.0.1:0/{ceph.number()}"
        self.is_given_up = False
        self.guard = ceph.guard
        self._client = client
        self._credentials = credentials
        self._pools: dict[int, MemoryPool] = {}

    @property
    def link(self) -> Link:
        return self

    def begin(self, call: str) -> None:
        self.reach(f"{call}:before")
        self.refuse_fenced(call)

    def refuse_fenced(self, call: str) -> None:
        if self.ceph.blocklist and self.is_fenced(call):
            self.replace()
            raise ClusterUnavailable(f"{call}: this client was put on the cluster's blocklist; it connects anew")

    def is_fenced(self, call: str) -> bool:
        """call: of which images are made from another address."""
        return (self.making_address if call in _MAKING_CALLS else self.address) in self.ceph.blocklist

    def reach(self, point: str) -> None:
        if self._client.is_dead:
            raise Crash(point)
        self._client.at_point(point, self)

    @contextmanager
    def watching(self, image: state.StoredImage) -> Iterator[None]:
        """Open for writing; what dies meanwhile leaves its watch for a while."""
        image.watches[self.address] = float("inf")
        try:
            yield
        finally:
            if self._client.is_dead:
                image.watches[self.address] = self.ceph.now() + WATCH_S
            else:
                image.watches.pop(self.address, None)

    @contextmanager
    def pool(self, pool: str | int) -> Iterator["MemoryPool"]:
        for pool_id, name in self.ceph.pools.items():
            if pool in (pool_id, name):
                if pool_id not in self._pools:
                    self._pools[pool_id] = MemoryPool(self, pool_id, name)
                yield self._pools[pool_id]
                return
        raise PoolMissing(f"cluster {self.entry.cluster_id!r} has no pool {pool!r}")

    def pool_names(self) -> list[str]:
        self.begin("cluster.pool_names")
        return list(self.ceph.pools.values())

    def pool_ids(self) -> dict[str, int]:
        self.begin("cluster.pool_ids")
        return {name: pool_id for pool_id, name in self.ceph.pools.items()}

    def rbd_pools(self) -> tuple[int, ...]:
        self.begin("cluster.rbd_pools")
        return tuple(sorted(self.ceph.pools))

    def health(self) -> tuple[HealthCheck, ...]:
        self.begin("cluster.health")
        return ()

    def blocklisted(self) -> frozenset[str]:
        self.begin("cluster.blocklisted")
        return frozenset(self.ceph.blocklist)

    def usage(self) -> dict[str, PoolUsage]:
        self.begin("cluster.usage")
        return {name: self.ceph.usage.get(name, PoolUsage(free_bytes=FREE_BYTES)) for name in self.ceph.pools.values()}

    @seam("cluster.blocklist")
    def blocklist(self, address: str, *, seconds: int = DAY_S) -> None:
        self.ceph.blocklist.add(address)
        self.ceph.cut_off_until[address] = self.ceph.now() + seconds

    def clones_format_2(self) -> bool:
        return self.ceph.clones_format_2

    def replace(self) -> None:
        self.is_given_up = True

    def image_address(self, pool: Pool, image: str) -> ImageAddress:
        entry = self.entry
        return ImageAddress(
            entry.monitors, self._credentials, pool.name, entry.rados_namespace, image, entry.read_affinity
        )


class MemoryPool:
    """`Pool` on one connection."""

    def __init__(self, cluster: Connection, pool_id: int, name: str) -> None:
        ceph = cluster.ceph
        self.cluster: Cluster = cluster
        self.name = name
        self.pool_id = pool_id
        self.namespace = cluster.entry.rados_namespace
        place = ceph.place(pool_id, self.namespace)
        objects = MemoryObjects(cluster, place, cluster.address, ceph.now, ceph.images)
        self.objects: Objects = objects
        self.leases: Leases = objects
        self.images: Images = MemoryImages(cluster, ceph, place)
        self.groups: Groups = MemoryGroups(cluster, ceph, place)
        self.ancestry: Ancestry = MemoryAncestry(cluster, ceph.images, place)


class MemoryClusters:
    """`Clusters` of one client: a single one, `dev`."""

    def __init__(self, ceph: MemoryCeph, client: Client) -> None:
        self._ceph = ceph
        self._client = client
        self._entry = ClusterEntry("dev", ("127.0.0.1",), credentials=Credentials("provisioner", "key"))
        self._connections: dict[tuple[Credentials, str], Connection] = {}

    def entry(self, cluster_id: str) -> ClusterEntry:
        if cluster_id != self._entry.cluster_id:
            raise InvalidRequest(f"clusterID {cluster_id!r} is not in the clusters file; it has: dev")
        return self._entry

    @contextmanager
    def connect(self, cluster_id: str, credentials: Credentials | None, purpose: str = "") -> Iterator[Connection]:
        entry = self.entry(cluster_id)
        who = credentials or entry.credentials
        assert who
        connection = self._connections.get((who, purpose))
        if connection is None or connection.is_given_up:
            connection = Connection(self._ceph, self._client, entry, who)
            self._connections[who, purpose] = connection
        yield connection


_: tuple[type[Cluster], type[Pool], type[Clusters]] = (Connection, MemoryPool, MemoryClusters)
