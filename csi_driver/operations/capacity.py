"""GetCapacity: how much more data the volumes of a class can hold, by what the monitors know of its pools.

The room of a pool is what Ceph can still store in it (`max_avail`, redundancy taken off) and what its quotas leave. Data lies
in the data pool, where the class has one; the image's own pool then only has to have some room. Without a class it is the
room of the one pool that has most of it, of all that this user may read: pools share their OSDs, so that a sum would count
the same room several times. Volumes take room only as they are written: one may be larger than all of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from csi_driver.ceph.api import Cluster, Clusters, PoolUsage
from csi_driver.errors import AccessDenied, InvalidRequest, NotFound

DEFAULT_OBJECT_BYTES = 4 << 20
"""Of a class that does not say."""


@dataclass(frozen=True)
class PoolsOfClass:
    """What of a class decides on its room: the pools that its volumes may lie in, each with its data pool or ""."""

    cluster_id: str
    pools: tuple[tuple[str, str], ...]
    object_size_bytes: int


def room(usage: PoolUsage, object_size_bytes: int) -> int:
    """Bytes of data that a pool still takes: Ceph's free space, and what both quotas leave."""
    left = [usage.free_bytes]
    if usage.quota_bytes:
        left.append(usage.quota_bytes - usage.stored_bytes)
    if usage.quota_objects:
        left.append((usage.quota_objects - usage.objects) * object_size_bytes)
    return max(0, min(left))


def _room_of_both(usage: Mapping[str, PoolUsage], pool: str, data_pool: str, object_size_bytes: int) -> int:
    here = room(usage[pool], object_size_bytes)
    return room(usage[data_pool], object_size_bytes) if here and data_pool else here


class Capacity:
    """Asks the monitors, with each cluster's own credentials."""

    def __init__(self, clusters: Clusters, cluster_ids: Callable[[], Sequence[str]], directory: str) -> None:
        """`directory`: the journal's object that is read to learn whether this user may use a pool."""
        self._clusters = clusters
        self._cluster_ids = cluster_ids
        self._directory = directory

    def of_class(self, wanted: PoolsOfClass) -> int:
        """Bytes, of the roomiest of its pools. Raises InvalidRequest for one that is not there."""
        with self._clusters.connect(wanted.cluster_id, None) as cluster:
            usage = cluster.usage()
        for pool in (name for pair in wanted.pools for name in pair if name and name not in usage):
            raise InvalidRequest(
                f"parameters (pool, dataPool, topologyConstrainedPools): cluster {wanted.cluster_id!r} has no pool {pool!r}"
            )
        return max((_room_of_both(usage, *pair, wanted.object_size_bytes) for pair in wanted.pools), default=0)

    def of_best_pool(self) -> int:
        """Bytes."""
        return max((self._best_in(cluster_id) for cluster_id in self._cluster_ids()), default=0)

    def _best_in(self, cluster_id: str) -> int:
        with self._clusters.connect(cluster_id, None) as cluster:
            usage = cluster.usage()
            rooms = sorted(((room(one, DEFAULT_OBJECT_BYTES), name) for name, one in usage.items()), reverse=True)
            return next((bytes_ for bytes_, name in rooms if self._may_read(cluster, name)), 0)

    def _may_read(self, cluster: Cluster, name: str) -> bool:
        try:
            with cluster.pool(name) as pool:
                pool.objects.list_page(self._directory, prefix="", after="", limit=1)
        except (AccessDenied, NotFound):
            return False
        return True
