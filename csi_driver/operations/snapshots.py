"""CreateSnapshot: one open of the source's image and one snap on it.

`decide` says what has to be done, given what a crash or another process may have left. The source's entry is read again
after the cut: a delete of the source marks it first and looks for snaps afterwards, so that one of the two sees the other.
"""

import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from enum import Enum, auto

import structlog

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import ImageMissing
from csi_driver.errors import (
    Busy,
    ClusterUnavailable,
    Conflict,
    Inconsistent,
    InvalidRequest,
    NoSpace,
    NotFound,
    PoolMissing,
    Rejected,
)
from csi_driver.ids import Handle
from csi_driver.journal import layout
from csi_driver.journal.entries import SnapshotEntry, VolumeEntry
from csi_driver.journal.layout import State
from csi_driver.journal.reading import Lost, Reserved
from csi_driver.locks import KeyedLocks
from csi_driver.model import Snapshot, SnapshotSpec
from csi_driver.operations.naming import give_back
from csi_driver.operations.origin import MOST_SNAPS
from csi_driver.operations.refusals import REFUSALS, told
from csi_driver.operations.relief import relieve
from csi_driver.operations.site import PoolKey, Site, Sites, load_usable, parse_handle, unopened, usable, volume_lock
from csi_driver.operations.snapshot_deletion import finish_snapshot_delete
from csi_driver.operations.topology import is_reachable

log = structlog.get_logger(__name__)

_ROUNDS = 8


class Step(Enum):
    """What a create does next."""

    CLAIM = auto()  # nothing is there: give the name a uuid
    BEGIN = auto()  # the name has a uuid, nothing more: write the entry
    TAKE_OVER = auto()  # begun by a maker that is gone: fence it, cut, unless it is cut
    FINISH_DELETE = auto()  # marked for deletion: finish that, then look again
    DROP_NAME = auto()  # the entry has been released: the name is free
    REUSE = auto()  # complete, of the same source


def decide(spec: SnapshotSpec, reserved: Reserved | None, entry: SnapshotEntry | None) -> Step:
    """Raises Conflict when the name is taken by a snapshot of another source."""
    if reserved is None:
        return Step.CLAIM
    if entry is None:
        return Step.BEGIN
    if entry.state is State.DELETING:
        return Step.FINISH_DELETE
    if entry.state in (State.TRASHED, State.PURGING):
        return Step.DROP_NAME
    if entry.is_native and entry.source_handle != spec.source_handle:
        raise Conflict(f"snapshot name {spec.name!r} is taken by a snapshot of volume {entry.source_handle!r}")
    return Step.TAKE_OVER if entry.state is State.MAKING else Step.REUSE


@dataclass(frozen=True)
class Soon:
    """Has a pool's deleted things, or its flatten queue, looked at behind the call."""

    purge: Callable[[PoolKey], None]
    flatten: Callable[[PoolKey], None]


class SnapshotCreation:
    """Makes snapshots."""

    def __init__(self, sites: Sites, locks: KeyedLocks, soon: "Soon") -> None:
        self._sites = sites
        self._locks = locks
        self._soon = soon

    def create(self, spec: SnapshotSpec, credentials: Credentials | None) -> Snapshot:
        """Raises NotFound (the source), Conflict, NoSpace at the limit of snapshots, Unfinished."""
        handle = parse_handle(spec.source_handle)
        if spec.cluster_id and spec.cluster_id != handle.cluster_id:
            raise InvalidRequest(
                f"parameter clusterID is {spec.cluster_id!r}, but volume {spec.source_handle!r} is in {handle.cluster_id!r}"
            )
        try:
            with (
                self._sites.open_of(handle, credentials, as_maker=True) as site,
                self._locks.hold(site.snapshot_name_lock(spec.name), shared=[volume_lock(handle)]),
            ):
                return _Creation(site, spec, handle, self._soon).run()
        except PoolMissing as error:
            raise NotFound(f"there is no volume {spec.source_handle!r}: {error}") from error


class _Creation:
    """One CreateSnapshot, its name held and its source shared with other readers."""

    def __init__(self, site: Site, spec: SnapshotSpec, source: Handle, soon: "Soon") -> None:
        self._site = site
        self._spec = spec
        self._source = source
        self._journal = site.snapshots
        self._soon = soon

    def run(self) -> Snapshot:
        new_uuid = str(uuid.uuid4())
        for _ in range(_ROUNDS):
            try:
                if snapshot := self._round(new_uuid):
                    return snapshot
            except Lost as lost:
                log.info("following another process", reason=str(lost))
            except REFUSALS as refusal:
                raise told(refusal, self._journal, self._spec.name) from refusal
        raise Busy(f"snapshot name {self._spec.name!r} is being worked on by other processes; repeat the call")

    def _round(self, new_uuid: str) -> Snapshot | None:
        """None: look again."""
        reserved, source = self._journal.find_beside(self._spec.name, self._site.journal, self._source.uuid)
        entry = self._journal.load(reserved.uuid) if reserved else None
        step = decide(self._spec, reserved, entry)
        if entry is None:
            source = self._checked(source, reserved)
            with self._site.pool.images.open_ahead(source.image_id) if source.image_id else nullcontext():
                taken = reserved or self._journal.claim(self._spec.name, Reserved(new_uuid))
                return self._begin(taken.uuid, source) if reserved or taken.uuid == new_uuid else None
        if step is Step.TAKE_OVER:
            self._site.fence(entry)
            return self._cut(self._journal.take_over(entry, self._site.cluster.address))
        if step is Step.REUSE:
            return self._reuse(entry)
        if step is Step.FINISH_DELETE:
            finish_snapshot_delete(self._site, entry)
        else:
            self._journal.release_name(entry)
        return None

    def _checked(self, source: VolumeEntry | None, reserved: Reserved | None) -> VolumeEntry:
        """Raises NotFound; NoSpace when it cannot be reached from where the snapshot must be. Leaves no name behind then."""
        try:
            source = usable(source, self._source)
            self._refuse_unreachable(source)
        except (NotFound, NoSpace):
            if reserved:
                give_back(self._journal, self._spec.name, reserved)
            raise
        return source

    def _refuse_unreachable(self, source: VolumeEntry) -> None:
        if not is_reachable(source.topology, self._spec.reachable_from):
            raise NoSpace(
                f"accessibility_requirements: a snapshot is where its volume is, and {self._spec.source_handle!r} can be "
                f"reached from {dict(source.topology)} alone"
            )

    def _begin(self, new_uuid: str, source: VolumeEntry) -> Snapshot | None:
        image_id = source.image_id or self._site.pool.images.find_id(source.image_name)
        if not image_id:
            raise Inconsistent(
                f"volume {self._source} is complete in the journal, but its image {source.image_name} is missing"
            )
        entry = SnapshotEntry(
            uuid=new_uuid,
            state=State.MAKING,
            request_name=self._spec.name,
            image_name="",
            maker=self._site.cluster.address,
            depth=source.depth,
            source_handle=self._spec.source_handle,
            source_image=source.image_name,
            source_image_id=image_id,
            snap_name=self._spec.snap_prefix + new_uuid,
            topology=source.topology,
        )
        try:
            self._journal.begin(entry)
        except Rejected:  # a pool at its quota lets no object be made, and only that
            give_back(self._journal, self._spec.name, Reserved(new_uuid))
            raise
        if self._journal.find(self._spec.name) != Reserved(new_uuid):
            self._undo(entry)
            return None
        return self._cut(entry)

    def _cut(self, entry: SnapshotEntry) -> Snapshot:
        try:
            snap = self._site.pool.images.cut(entry.source_image_id, entry.snap_name, most=MOST_SNAPS)
        except ImageMissing as error:
            raise unopened(self._site, self._living_source(entry)) from error
        except Rejected:
            self._undo(entry)
            raise
        self._living_source(entry)
        relieve(self._site, entry.source_image_id, self._soon.flatten)
        done = replace(entry, size_bytes=snap.size_bytes, snap_id=snap.snap_id, created_at=snap.created_at)
        self._journal.complete(
            entry,
            {
                layout.SIZE: str(snap.size_bytes),
                layout.SNAP_ID: str(snap.snap_id),
                layout.CREATED_AT: repr(snap.created_at),
            },
        )
        return self._snapshot(done)

    def _living_source(self, entry: SnapshotEntry) -> VolumeEntry:
        """Raises NotFound when the volume was deleted while it was cut: the snapshot goes with it."""
        source = self._site.journal.load(self._source.uuid)
        if source is not None and source.is_usable:
            return source
        self._undo(entry)
        self._soon.purge(replace(self._site.key, pool=self._source.pool_id))
        raise NotFound(f"volume {self._spec.source_handle!r} was deleted while its snapshot was made")

    def _undo(self, entry: SnapshotEntry) -> None:
        try:
            finish_snapshot_delete(self._site, self._journal.mark_deleting(entry, unmade=True))
        except Rejected as trouble:
            raise ClusterUnavailable(f"clearing away snapshot {entry.uuid} did not end: {trouble}") from trouble

    def _reuse(self, entry: SnapshotEntry) -> Snapshot:
        if entry.is_native:
            return self._snapshot(entry)
        source = load_usable(self._site, self._source)
        if source.image_name != entry.source_image:
            raise Conflict(f"snapshot name {self._spec.name!r} is taken by a snapshot of image {entry.source_image!r}")
        try:
            snap = self._site.pool.images.get_snap(entry.image_name, entry.image_name)
        except ImageMissing:
            raise Inconsistent(
                f"snapshot {entry.uuid} was never finished by the driver that began it: {entry.image_name} has no snap"
            ) from None
        return self._snapshot(replace(entry, size_bytes=snap.size_bytes, created_at=snap.created_at))

    def _snapshot(self, entry: SnapshotEntry) -> Snapshot:
        handle = self._site.handle(entry.uuid)
        return Snapshot(str(handle), self._spec.source_handle, entry.size_bytes, entry.created_at, entry.topology)
