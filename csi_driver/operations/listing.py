"""ListVolumes and ListSnapshots: a walk over the keys of the journal's directories, in pages.

The order is that of cluster ids, pool ids and keys, and a page begins after a key, whether that is still there: so what lives
throughout is told once, whatever is made and deleted between the pages. Nothing is kept from one page to the next.

Told is what is `complete`: of every configured cluster, with its own credentials, and of every pool that this user may read.
The name of what an undelete has brought back may be another's by now: its D is walked too. Two entries of the clusters file
may lead to the same place: there, each tells what was made under its own id.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from csi_driver.addresses import Credentials
from csi_driver.errors import AccessDenied, BadPageToken, NotFound, PoolMissing
from csi_driver.ids import Handle
from csi_driver.journal.entries import SnapshotEntry, VolumeEntry
from csi_driver.journal.journal import Journal
from csi_driver.journal.reading import Reserved
from csi_driver.model import ListedVolume, Snapshot
from csi_driver.operations.description import cluster_of, describe_snapshot, describe_volume
from csi_driver.operations.site import PoolKey, Site, Sites, load_usable, parse_handle

log = structlog.get_logger(__name__)

E = TypeVar("E", VolumeEntry, SnapshotEntry)
T = TypeVar("T")

_KEYS_AT_ONCE = 500


@dataclass(frozen=True)
class Position:
    """After which key of which directory a page begins.

    `is_entry`: `after` is not the key but the uuid of the entry that it names, and `entry_pool_id` where that lies.
    """

    cluster_id: str
    pool_id: int
    after: str = ""
    is_entry: bool = False
    entry_pool_id: int = 0


@dataclass(frozen=True)
class Last:
    """The last thing on a page, in both ways in which a position can name it."""

    by_key: Position
    by_entry: Position


@dataclass(frozen=True)
class Page(Generic[T]):
    """`last`: where the next one goes on; None at the end."""

    items: tuple[T, ...]
    last: Last | None = None


@dataclass(frozen=True)
class _Walk(Generic[E, T]):
    """What is walked over: a journal, and how its entries are told."""

    journal: Callable[[Site], Journal[E]]
    describe: Callable[[Site, E], T | None]


_VOLUMES: _Walk[VolumeEntry, ListedVolume] = _Walk(lambda site: site.journal, describe_volume)
_SNAPSHOTS: _Walk[SnapshotEntry, Snapshot] = _Walk(lambda site: site.snapshots, describe_snapshot)


class Listing:
    """Lists and looks up. `cluster_ids`: those whose own credentials the clusters file names."""

    def __init__(self, sites: Sites, cluster_ids: Callable[[], Sequence[str]]) -> None:
        self._sites = sites
        self._cluster_ids = cluster_ids

    def volumes(self, start: Position | None, limit: int) -> Page[ListedVolume]:
        """At most `limit`, or all with 0. Raises BadPageToken."""
        return _page(self._walk(_VOLUMES, start, self._pools(start)), limit)

    def walk_volumes(
        self, start: Position | None, describe: Callable[[Site, VolumeEntry], T | None]
    ) -> Iterator[tuple[T, Last]]:
        """What `describe` says of each volume, None of none, with the place after it. Raises BadPageToken."""
        return self._walk(_Walk(lambda site: site.journal, describe), start, self._pools(start))

    def all_volumes(self) -> Iterator[ListedVolume]:
        """One after another."""
        return (found for found, _ in self._walk(_VOLUMES, None, self._pools(None)))

    def snapshots(self, start: Position | None, limit: int) -> Page[Snapshot]:
        """As `volumes`."""
        return _page(self._walk(_SNAPSHOTS, start, self._pools(start)), limit)

    def snapshots_of(
        self, source: str, start: Position | None, limit: int, credentials: Credentials | None
    ) -> Page[Snapshot]:
        """Those of one volume, which lie in its pool; none for an id of nothing."""
        handle = Handle.parse(source)
        if handle is None or handle.cluster_id not in self._cluster_ids():
            return Page(())
        if start and (start.cluster_id, start.pool_id) != (handle.cluster_id, handle.pool_id):
            raise BadPageToken(
                "starting_token is of a listing without this source_volume_id: begin this one without it"
            )
        key = PoolKey(handle.cluster_id, credentials, handle.pool_id)
        all_there = self._walk(_SNAPSHOTS, start, [key])
        return _page(((one, last) for one, last in all_there if one.source_handle == source), limit)

    def volume(self, volume_id: str) -> ListedVolume:
        """Raises NotFound."""
        handle = parse_handle(volume_id)
        try:
            with self._sites.open_of(handle, None) as site:
                found = describe_volume(site, load_usable(site, handle))
        except PoolMissing as error:
            raise NotFound(f"there is no volume {volume_id!r}: {error}") from error
        if found is None:
            raise NotFound(f"there is no volume {volume_id!r}: its image is missing")
        return found

    def snapshot(self, snapshot_id: str, credentials: Credentials | None) -> Snapshot:
        """Raises NotFound."""
        handle = parse_handle(snapshot_id, "snapshot")
        try:
            with self._sites.open_of(handle, credentials) as site:
                entry = site.snapshots.load(handle.uuid)
                found = describe_snapshot(site, entry) if entry else None
        except PoolMissing as error:
            raise NotFound(f"there is no snapshot {snapshot_id!r}: {error}") from error
        if found is None:
            raise NotFound(f"there is no snapshot {snapshot_id!r}")
        return found

    def _pools(self, start: Position | None) -> Iterator[PoolKey]:
        """Pools in the order of their ids, from that of the position on."""
        cluster_ids = sorted(self._cluster_ids())
        if start and start.cluster_id not in cluster_ids:
            raise BadPageToken(f"starting_token names a cluster that is not configured; known are {cluster_ids}")
        for cluster_id in cluster_ids:
            if start and cluster_id < start.cluster_id:
                continue
            for key in self._sites.own_pools(cluster_id):
                if not start or (cluster_id, int(key.pool)) >= (start.cluster_id, start.pool_id):
                    yield key

    def _walk(self, walk: _Walk[E, T], start: Position | None, keys: Iterator[PoolKey] | list[PoolKey]) -> "_Found[T]":
        for key in keys:
            try:
                with self._sites.open(key) as site:
                    begins_here = start and (start.cluster_id, start.pool_id) == (key.cluster_id, key.pool)
                    after = _resolved(walk, site, start) if start and begins_here else ""
                    yield from self._in_pool(walk, site, after)
            except (AccessDenied, NotFound) as denied:
                log.debug("a pool is left out of the listing", pool=key.pool, reason=str(denied))

    def _in_pool(self, walk: _Walk[E, T], site: Site, after: str) -> "_Found[T]":
        journal = walk.journal(site)
        while names := journal.list_names(after, _KEYS_AT_ONCE):
            for key, named in names:
                if named and (told := self._tell(walk, site, named)):
                    yield told, _last(site, key, named)
            after = names[-1][0]

    def _tell(self, walk: _Walk[E, T], site: Site, named: Reserved) -> T | None:
        pool_id = site.pool.pool_id if named.pool_id is None else named.pool_id
        try:
            with site.beside(pool_id) as there:
                entry = walk.journal(there).load(named.uuid)
                if entry is None or self._is_anothers(entry, site.key.cluster_id):
                    return None
                return walk.describe(there, entry)
        except (AccessDenied, NotFound, ValueError) as unreadable:
            log.debug("an entry is left out of the listing", entry=named.uuid, reason=str(unreadable))
            return None

    def _is_anothers(self, entry: VolumeEntry | SnapshotEntry, cluster_id: str) -> bool:
        made_under = cluster_of(entry)
        return bool(made_under) and made_under != cluster_id and made_under in self._cluster_ids()


_Found = Iterator[tuple[T, Last]]


def _page(found: _Found[T], limit: int) -> Page[T]:
    items: list[T] = []
    last: Last | None = None
    for one, at in found:
        if limit and len(items) == limit:
            return Page(tuple(items), last)
        items.append(one)
        last = at
    return Page(tuple(items))


def _last(site: Site, key: str, named: Reserved) -> Last:
    entry_pool_id = site.pool.pool_id if named.pool_id is None else named.pool_id
    place = (site.key.cluster_id, site.pool.pool_id)
    return Last(Position(*place, key), Position(*place, named.uuid, is_entry=True, entry_pool_id=entry_pool_id))


def _resolved(walk: _Walk[E, T], site: Site, start: Position) -> str:
    """The key after which to go on. Raises BadPageToken when the entry that would tell it is gone."""
    if not start.is_entry:
        return start.after
    try:
        with site.beside(start.entry_pool_id) as there:
            entry = walk.journal(there).load(start.after)
    except NotFound:
        entry = None
    if entry is None:
        raise BadPageToken("what starting_token names was deleted meanwhile: begin the listing again without a token")
    return walk.journal(site).name_key(entry.request_name)
