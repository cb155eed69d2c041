"""Where an operation works: one pool of one cluster, entered as a maker, with its journal.

Entering a pool for the first time writes this process's record there, fences its predecessor, and has what was left to be
cleared away there looked through.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import Cluster, Clusters, Pool
from csi_driver.errors import ClusterUnavailable, DriverError, Inconsistent, NotFound
from csi_driver.ids import Handle
from csi_driver.journal.entries import Entry, SnapshotEntry, VolumeEntry
from csi_driver.journal.flatten_queue import FlattenQueue, FlattenWorkers
from csi_driver.journal.group_entries import GroupEntry, group_journal
from csi_driver.journal.journal import Journal, snapshot_journal, volume_journal
from csi_driver.journal.layout import State
from csi_driver.journal.makers import CLAIM_GRACE_S, Makers
from csi_driver.journal.reading import E
from csi_driver.notices import Tell, tell_nobody
from csi_driver.operations.volume_keys import KeptKey, KeyEnding, UnknownKeys


@dataclass(frozen=True)
class PoolKey:
    """A pool as the driver reaches it: cluster entry, user and pool."""

    cluster_id: str
    credentials: Credentials | None
    pool: str | int


@dataclass(frozen=True)
class Site:
    """One open pool."""

    key: PoolKey
    cluster: Cluster
    pool: Pool
    journal: Journal[VolumeEntry]
    snapshots: Journal[SnapshotEntry]
    makers: Makers
    instance: str
    tell: Tell = tell_nobody
    keys: KeyEnding = field(default_factory=UnknownKeys)

    @property
    def flatten_queue(self) -> FlattenQueue:
        return FlattenQueue(self.pool, self.instance)

    @property
    def flatten_workers(self) -> FlattenWorkers:
        return FlattenWorkers(self.pool, self.instance)

    @property
    def groups(self) -> Journal[GroupEntry]:
        return group_journal(self.pool, self.instance)

    def group_name_lock(self, request_name: str) -> str:
        return f"group snapshot name {request_name!r} of pool {self.pool.name!r} in cluster {self.key.cluster_id!r}"

    def handle(self, uuid: str) -> Handle:
        return Handle(self.key.cluster_id, self.pool.pool_id, uuid)

    def name_lock(self, request_name: str) -> str:
        return f"volume name {request_name!r} of pool {self.pool.name!r} in cluster {self.key.cluster_id!r}"

    def snapshot_name_lock(self, request_name: str) -> str:
        return f"snapshot name {request_name!r} of pool {self.pool.name!r} in cluster {self.key.cluster_id!r}"

    @contextmanager
    def beside(self, pool_id: int) -> Iterator["Site"]:
        """This cluster's other pool, or this one. Raises NotFound."""
        if pool_id == self.pool.pool_id:
            yield self
            return
        with self.cluster.pool(pool_id) as pool:
            yield replace(
                self,
                key=replace(self.key, pool=pool_id),
                pool=pool,
                journal=volume_journal(pool, self.instance),
                snapshots=snapshot_journal(pool, self.instance),
            )

    def forget_key(self, entry: VolumeEntry | SnapshotEntry) -> None:
        """Of an image that is gone, while its entry is there. Raises KmsUnavailable."""
        if entry.kms_id:
            self.keys.forget(KeptKey(str(self.handle(entry.uuid)), entry.kms_id, "", entry.owner))

    def fence(self, entry: Entry) -> None:
        """Cut off the maker of an unfinished entry. Raises Busy within its grace time."""
        self.makers.fence(
            self.pool, entry.maker, since=entry.made_at, doing=f"name {entry.request_name!r} is being made"
        )

    def take_delete_on(self, journal: Journal[E], entry: E) -> E:
        """Before a delete is gone on with that another process began: the entry afterwards. Its late move to the trash must
        not put an image there that was purged or brought back since. Raises Busy within its grace time.
        """
        if entry.maker == self.cluster.address:
            return entry
        if entry.maker:
            doing = f"{journal.noun} of name {entry.request_name!r} is being deleted"
            self.makers.fence(self.pool, entry.maker, since=entry.made_at, doing=doing, grace_s=CLAIM_GRACE_S)
        return journal.take_on(entry, State.DELETING, self.cluster.address)

    def fence_resizer(self, entry: Entry) -> None:
        """Likewise whoever grows its image, if anybody does."""
        if entry.resizer:
            address, since = entry.resizer.split()
            doing = f"volume {self.handle(entry.uuid)} is being expanded"
            self.makers.fence(self.pool, address, since=float(since), doing=doing)


def volume_lock(handle: Handle) -> str:
    return f"volume {handle}"


def group_lock(handle: Handle) -> str:
    return f"group snapshot {handle}"


def snapshot_lock(handle: Handle) -> str:
    return f"snapshot {handle}"


class Sites:
    """Opens pools."""

    def __init__(self, clusters: Clusters, makers: Makers, instance: str) -> None:
        self._clusters = clusters
        self._makers = makers
        self._instance = instance
        self.on_first_entry: Callable[[PoolKey], None] = lambda _key: None
        self.tell: Tell = tell_nobody
        self.keys: KeyEnding = UnknownKeys()

    @contextmanager
    def open(self, key: PoolKey, *, as_maker: bool = False, purpose: str = "") -> Iterator[Site]:
        """Raises NotFound when there is no such pool. `as_maker`: before volumes are made there.

        `purpose`: on a connection of its own.
        """
        with (
            self._clusters.connect(key.cluster_id, key.credentials, purpose) as cluster,
            cluster.pool(key.pool) as pool,
        ):
            if as_maker:
                _, is_first = self._makers.enter(pool)
                if is_first:
                    self.on_first_entry(PoolKey(key.cluster_id, key.credentials, pool.pool_id))
            yield Site(
                key,
                cluster,
                pool,
                volume_journal(pool, self._instance),
                snapshot_journal(pool, self._instance),
                self._makers,
                self._instance,
                self.tell,
                self.keys,
            )

    def own_pools(self, cluster_id: str) -> list[PoolKey]:
        """Pools that may be RBD's, in the order of their ids, whether the driver's own user may read them or not."""
        with self._clusters.connect(cluster_id, None) as cluster:
            return [PoolKey(cluster_id, None, pool_id) for pool_id in cluster.rbd_pools()]

    def open_of(
        self, handle: Handle, credentials: Credentials | None, *, as_maker: bool = False
    ) -> AbstractContextManager[Site]:
        return self.open(PoolKey(handle.cluster_id, credentials, handle.pool_id), as_maker=as_maker)


def parse_handle(identifier: str, noun: str = "volume") -> Handle:
    """Raises NotFound: what does not parse is the id of nothing."""
    handle = Handle.parse(identifier)
    if handle is None:
        raise NotFound(f"there is no {noun} {identifier!r}")
    return handle


def unopened(site: Site, entry: VolumeEntry) -> DriverError:
    """Why an image cannot be opened that is complete in the journal."""
    if entry.image_id and site.flatten_queue.holds_up(entry.image_id):
        return ClusterUnavailable(
            f"image {entry.image_name} cannot be opened: a flatten was cut short and is taken up again; repeat the call"
        )
    return Inconsistent(
        f"volume {entry.uuid} is complete in the journal, but its image {entry.image_name} cannot be opened; "
        "nothing was touched"
    )


def load_usable(site: Site, handle: Handle) -> VolumeEntry:
    """The entry of a volume that exists. Raises NotFound."""
    return usable(site.journal.load(handle.uuid), handle)


def usable(entry: VolumeEntry | None, handle: Handle) -> VolumeEntry:
    """Raises NotFound."""
    if entry is None or not entry.is_usable:
        raise NotFound(f"there is no volume {str(handle)!r}")
    return entry
