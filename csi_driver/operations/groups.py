"""CreateVolumeGroupSnapshot: one snap of an RBD group, which is there for that alone.

`decide` says what has to be done, given what a crash or another process may have left; `_Creation.bring_about` goes through
all steps from the first, and each finds done what was done. Rolls forward; only a refusal that is final clears away.
"""

import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum, auto

import structlog

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import ImageBusy, ImageInfo, ImageMissing
from csi_driver.errors import (
    Busy,
    ClusterUnavailable,
    Conflict,
    InUse,
    InvalidRequest,
    NoSpace,
    NotFound,
    PoolMissing,
    Rejected,
)
from csi_driver.ids import Handle, uuid_at_end
from csi_driver.journal import layout
from csi_driver.journal.entries import VolumeEntry
from csi_driver.journal.group_entries import GroupEntry, Member
from csi_driver.journal.layout import State
from csi_driver.journal.reading import Lost, Reserved
from csi_driver.locks import KeyedLocks
from csi_driver.model import GroupSnapshot, GroupSnapshotSpec
from csi_driver.operations.group_deletion import GROUP_SNAP, finish_group_delete
from csi_driver.operations.group_members import describe_group, part_of_group, write_member
from csi_driver.operations.naming import give_back
from csi_driver.operations.origin import MOST_SNAPS
from csi_driver.operations.refusals import REFUSALS, told
from csi_driver.operations.site import PoolKey, Site, Sites, load_usable, parse_handle, unopened, volume_lock

log = structlog.get_logger(__name__)

_ROUNDS = 8


class Step(Enum):
    """What a create does next."""

    CLAIM = auto()  # nothing is there: give the name a uuid
    BEGIN = auto()  # the name has a uuid, nothing more: write the entry
    TAKE_OVER = auto()  # begun by a maker that is gone: fence it, and go on
    FINISH_DELETE = auto()  # marked for deletion: finish that, then look again
    REUSE = auto()  # complete, of the same volumes


def decide(spec: GroupSnapshotSpec, reserved: Reserved | None, entry: GroupEntry | None) -> Step:
    """Raises Conflict when the name is taken by a group of other volumes."""
    if reserved is None:
        return Step.CLAIM
    if entry is None:
        return Step.BEGIN
    if entry.state is State.DELETING:
        return Step.FINISH_DELETE
    if entry.sources != set(spec.source_handles):
        raise Conflict(
            f"group snapshot name {spec.name!r} is taken by one of other volumes: {', '.join(sorted(entry.sources))}"
        )
    if not entry.image_name.startswith(spec.group_prefix):
        raise Conflict(
            f"group snapshot name {spec.name!r} is taken by one with another volumeGroupNamePrefix: {entry.image_name}"
        )
    return Step.TAKE_OVER if entry.state is State.MAKING else Step.REUSE


class GroupCreation:
    """Makes group snapshots. `purge_soon` has a pool looked at behind the call."""

    def __init__(self, sites: Sites, locks: KeyedLocks, purge_soon: Callable[[PoolKey], None]) -> None:
        self._sites = sites
        self._locks = locks
        self._purge_soon = purge_soon

    def create(self, spec: GroupSnapshotSpec, credentials: Credentials | None) -> GroupSnapshot:
        """Raises NotFound (a volume), Conflict, InUse (no common moment can be had), NoSpace, Unfinished.

        Its volumes are held alone: librbd takes the locks of all of them for the cut.
        """
        handles = _handles(spec)
        key = PoolKey(handles[0].cluster_id, credentials, spec.pool or handles[0].pool_id)
        try:
            with (
                self._sites.open(key, as_maker=True) as site,
                self._locks.hold(site.group_name_lock(spec.name), *(volume_lock(one) for one in handles)),
            ):
                return _Creation(site, spec, handles, self._purge_soon).run()
        except PoolMissing as error:
            if spec.pool:
                raise InvalidRequest(f"parameter pool: {error}") from error
            raise NotFound(f"there is no volume {str(handles[0])!r}: {error}") from error


def _handles(spec: GroupSnapshotSpec) -> list[Handle]:
    """In the order of their text, so that the first pool is the same in each call. Raises NotFound, InvalidRequest."""
    handles = [parse_handle(one) for one in sorted(spec.source_handles)]
    clusters = {one.cluster_id for one in handles} | ({spec.cluster_id} if spec.cluster_id else set())
    if len(clusters) > 1:
        raise InvalidRequest(
            f"source_volume_ids and the parameter clusterID name several clusters: {', '.join(sorted(clusters))}; "
            "a group lies in one"
        )
    return handles


class _Creation:
    """One CreateVolumeGroupSnapshot, its name and its volumes held."""

    def __init__(
        self,
        site: Site,
        spec: GroupSnapshotSpec,
        handles: Sequence[Handle],
        purge_soon: Callable[[PoolKey], None],
    ) -> None:
        self._site = site
        self._spec = spec
        self._handles = handles
        self._journal = site.groups
        self._purge_soon = purge_soon

    def run(self) -> GroupSnapshot:
        new_uuid = str(uuid.uuid4())
        for _ in range(_ROUNDS):
            try:
                if group := self._round(new_uuid):
                    return group
            except Lost as lost:
                log.info("following another process", reason=str(lost))
            except REFUSALS as refusal:
                raise told(refusal, self._journal, self._spec.name) from refusal
        raise Busy(f"group snapshot name {self._spec.name!r} is being worked on by other processes; repeat the call")

    def _round(self, new_uuid: str) -> GroupSnapshot | None:
        """None: look again."""
        reserved = self._journal.find(self._spec.name)
        entry = self._journal.load(reserved.uuid) if reserved else None
        step = decide(self._spec, reserved, entry)
        if entry is None:
            members = self._members(reserved)
            taken = reserved or self._journal.claim(self._spec.name, Reserved(new_uuid))
            return self._begin(taken.uuid, members) if reserved or taken.uuid == new_uuid else None
        if step is Step.TAKE_OVER:
            self._site.fence(entry)
            return self._settle(self._journal.take_over(entry, self._site.cluster.address))
        if step is Step.REUSE:
            return describe_group(self._site, entry)
        finish_group_delete(self._site, entry)
        return None

    # ── before the cut ──

    def _members(self, reserved: Reserved | None) -> tuple[Member, ...]:
        """Of volumes that can all be cut. A refusal leaves no name behind."""
        try:
            if not self._site.cluster.clones_format_2():
                raise InUse(
                    "snapshots of groups can only be cloned in format 2, which this cluster's oldest clients do not know: "
                    "`ceph osd set-require-min-compat-client mimic` allows it"
                )
            return tuple(self._member(handle) for handle in self._handles)
        except Rejected:
            if reserved:
                give_back(self._journal, self._spec.name, reserved)
            raise

    def _member(self, handle: Handle) -> Member:
        with ExitStack() as stack:
            try:
                there = stack.enter_context(self._site.beside(handle.pool_id))
            except PoolMissing as error:
                raise NotFound(f"there is no volume {str(handle)!r}: {error}") from error
            source = load_usable(there, handle)
            info = _inspect(there, source)
            if "exclusive-lock" not in info.features:
                raise InUse(
                    f"volume {handle} has not the image feature exclusive-lock, without which no moment in its writes can "
                    "be held: leave it out of the group, or enable the feature"
                )
            if len(info.snaps) >= MOST_SNAPS:
                raise NoSpace(f"volume {handle} has {len(info.snaps)} snapshots and at most {MOST_SNAPS} are allowed")
            return Member(str(handle), handle.pool_id, source.image_name, info.image_id, str(uuid.uuid4()))

    def _begin(self, new_uuid: str, members: tuple[Member, ...]) -> GroupSnapshot | None:
        entry = GroupEntry(
            uuid=new_uuid,
            state=State.MAKING,
            request_name=self._spec.name,
            image_name=self._spec.group_prefix + new_uuid,
            maker=self._site.cluster.address,
            members=members,
        )
        try:
            self._journal.begin(entry)
        except Rejected:
            give_back(self._journal, self._spec.name, Reserved(new_uuid))
            raise
        if self._journal.find(self._spec.name) != Reserved(new_uuid):
            self._undo(entry)
            return None
        return self._settle(entry)

    # ── the cut, and what follows from it ──

    def _settle(self, entry: GroupEntry) -> GroupSnapshot:
        """A refusal leaves nothing behind; everything else leaves the entry to be taken up by the next call."""
        try:
            return self._bring_about(entry)
        except Rejected:
            self._undo(entry)
            raise
        except ImageBusy as busy:
            raise Busy(f"group snapshot name {entry.request_name!r}: {busy}; repeat the call") from busy

    def _bring_about(self, entry: GroupEntry) -> GroupSnapshot:
        groups = self._site.pool.groups
        groups.create(entry.image_name)
        found = groups.has_snap(entry.image_name, GROUP_SNAP)
        if not found:
            if found is False:
                groups.remove_snap(entry.image_name, GROUP_SNAP)
            for member in entry.members:
                self._add(entry, member)
            groups.cut(entry.image_name, GROUP_SNAP)
        for member in entry.members:
            with self._site.beside(member.pool_id) as there:
                groups.take_out(entry.image_name, there.pool, member.image_name)
        # As with a single snapshot: a delete marks its volume first and looks for snaps afterwards.
        created_at = min([self._write_snapshot(entry, member) for member in entry.members])
        self._journal.complete(entry, {layout.CREATED_AT: repr(created_at)})
        return describe_group(self._site, replace(entry, state=State.COMPLETE, created_at=created_at))

    def _add(self, entry: GroupEntry, member: Member) -> None:
        with self._site.beside(member.pool_id) as there:
            self._site.makers.enter(there.pool)  # so that a delete knows who has the image open
            try:
                self._site.pool.groups.add(entry.image_name, there.pool, member.image_name)
            except ImageMissing:
                raise unopened(there, self._living(there, member)) from None

    def _write_snapshot(self, entry: GroupEntry, member: Member) -> float:
        """When it was cut. Raises NotFound when its volume was deleted meanwhile."""
        with self._site.beside(member.pool_id) as there:
            source = self._living(there, member)
            snap = part_of_group(_inspect(there, source).snaps, entry.image_name, self._site.pool.pool_id)
            if snap is None:
                raise ClusterUnavailable(
                    f"the snap of group {entry.image_name} is missing on image {member.image_name}; repeat the call"
                )
            return write_member(self._site, entry, member, snap, source)

    def _living(self, there: Site, member: Member) -> VolumeEntry:
        """Raises NotFound when the volume was deleted while the group was cut: the group goes with it."""
        source = there.journal.load(uuid_at_end(member.source_handle))
        if source is None or not source.is_usable:
            raise NotFound(f"volume {member.source_handle!r} was deleted while the snapshot of its group was made")
        return source

    def _undo(self, entry: GroupEntry) -> None:
        try:
            finish_group_delete(self._site, self._journal.mark_deleting(entry, unmade=True))
        except Rejected as trouble:
            raise ClusterUnavailable(f"clearing away group {entry.image_name} did not end: {trouble}") from trouble
        for pool_id in {one.pool_id for one in entry.members}:
            self._purge_soon(replace(self._site.key, pool=pool_id))


def _inspect(there: Site, source: VolumeEntry) -> ImageInfo:
    try:
        return there.pool.images.inspect(source.image_name)
    except ImageMissing:
        # Another process may have deleted the volume since its entry was read.
        raise unopened(there, load_usable(there, there.handle(source.uuid))) from None
