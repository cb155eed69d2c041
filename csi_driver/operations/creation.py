"""CreateVolume: empty volumes, and copies of snapshots and volumes.

`decide` says what has to be done, given what a crash or another process may have left; its rows are those of the table in
the journal's docstring. `VolumeCreation` does it. Rolls forward: after the name is claimed, whatever fails leaves the
entry for the next call; only a refusal that is final clears it away first.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import Enum, auto

import structlog

from csi_driver.ceph.api import ImageExists, ImageMissing, MetadataWrite
from csi_driver.errors import (
    Busy,
    ClusterUnavailable,
    Conflict,
    DriverError,
    Inconsistent,
    InvalidRequest,
    OutOfRange,
    PoolMissing,
    Rejected,
    StillWorking,
)
from csi_driver.journal import layout
from csi_driver.journal.entries import ClonedFrom, VolumeEntry
from csi_driver.journal.journal import Lost, Reserved
from csi_driver.journal.layout import State
from csi_driver.locks import KeyedLocks
from csi_driver.model import CloneFormat, Credentials, FlattenPolicy, Volume, VolumeSpec
from csi_driver.mutable import MutableParameters
from csi_driver.operations.agreement import agreed, difference
from csi_driver.operations.deletion import (
    delete_entry,
    finish_delete,
    release_name,
    remove_clone_snap,
    remove_unmade,
    undo,
)
from csi_driver.operations.depth import Plan, depth_if_shallow, enqueue, plan, with_depth
from csi_driver.operations.description import volume_context
from csi_driver.operations.flattener import Flattener
from csi_driver.operations.limits import first_settings
from csi_driver.operations.naming import VolumeName
from csi_driver.operations.origin import Origin, open_origin, source_lock
from csi_driver.operations.refusals import REFUSALS, told
from csi_driver.operations.relief import relieve
from csi_driver.operations.site import PoolKey, Site, Sites, load_usable
from csi_driver.operations.topology import bound_to, choose_pool, is_reachable

log = structlog.get_logger(__name__)

_ROUNDS = 8
"""How often one call follows what other processes do to its name before it leaves that to a repeated call."""


class Step(Enum):
    """What a create does next."""

    CLAIM = auto()  # nothing is there: give the name a uuid
    BEGIN = auto()  # the name has a uuid, nothing more: write the entry
    TAKE_OVER = auto()  # begun by a maker that is gone: fence it, clear its image away, make the image
    FINISH_DELETE = auto()  # marked for deletion: finish that, then look again
    DROP_NAME = auto()  # the entry has been released: the name is free
    AWAIT_FLATTEN = auto()  # made, and too deep to be handed out yet
    AWAIT_UNDELETE = auto()  # deleted, and being brought back
    REUSE = auto()  # complete, and the same request


def decide(spec: VolumeSpec, reserved: Reserved | None, entry: VolumeEntry | None) -> Step:
    """Raises Conflict when the name is taken by a request that differs."""
    if reserved is None:
        return Step.CLAIM
    if entry is None:
        return Step.BEGIN
    if entry.state is State.DELETING:
        return Step.FINISH_DELETE
    if entry.state in (State.TOMBSTONE, State.SHRUNK, State.TRASHED, State.PURGING):
        return Step.DROP_NAME
    if entry.state is State.RESTORING:
        return Step.AWAIT_UNDELETE
    if differs := difference(spec, entry):
        raise Conflict(f"volume name {spec.name!r} is taken by another request: {differs}")
    return {State.MAKING: Step.TAKE_OVER, State.FLATTENING: Step.AWAIT_FLATTEN}.get(entry.state, Step.REUSE)


@dataclass(frozen=True)
class Behind:
    """What goes on behind the calls. `purge_soon` has a pool looked at."""

    purge_soon: Callable[[PoolKey], None]
    flattener: Flattener


class VolumeCreation:
    """Makes volumes."""

    def __init__(self, sites: Sites, locks: KeyedLocks, behind: "Behind") -> None:
        self._sites = sites
        self._locks = locks
        self._behind = behind

    def create(self, spec: VolumeSpec, credentials: Credentials | None) -> Volume:
        """Raises Conflict, InvalidRequest, NotFound (the source), OutOfRange, NoSpace, Inconsistent, or Unfinished."""
        shared = [source_lock(spec.source)] if spec.source else []
        key = PoolKey(spec.cluster_id, credentials, spec.pool)
        try:
            with (
                self._sites.open(key, as_maker=True) as site,
                self._locks.hold(site.name_lock(spec.name), shared=shared),
            ):
                return self._rounds(site, spec)
        except PoolMissing as error:
            named = "pool or topologyConstrainedPools" if spec.constrained_pools else "pool"
            raise InvalidRequest(f"parameter {named}: {error}") from error

    def _rounds(self, names: Site, spec: VolumeSpec) -> Volume:
        """`names`: where the name's key is."""
        new_uuid = str(uuid.uuid4())
        for _ in range(_ROUNDS):
            reserved = names.journal.find(spec.name)
            try:
                if volume := self._round(names, spec, reserved, new_uuid):
                    return volume
            except Lost as lost:
                log.info("following another process", reason=str(lost))
            except REFUSALS as refusal:
                raise told(refusal, names.journal, spec.name) from refusal
        raise Busy(f"volume name {spec.name!r} is being worked on by other processes; repeat the call")

    def _round(self, names: Site, spec: VolumeSpec, reserved: Reserved | None, new_uuid: str) -> Volume | None:
        """None: look again."""
        if not spec.constrained_pools:
            if reserved and reserved.pool_id not in (None, names.pool.pool_id):
                raise Conflict(f"volume name {spec.name!r} is taken by a volume in the pool with id {reserved.pool_id}")
            return _Creation(names, names, spec, self._behind).round(reserved, new_uuid)
        if reserved is None:
            bound = bound_to(spec, choose_pool(spec))
            with self._sites.open(replace(names.key, pool=bound.pool), as_maker=True) as site:
                return _Creation(site, names, bound, self._behind).round(None, new_uuid)
        pool_id = names.pool.pool_id if reserved.pool_id is None else reserved.pool_id
        with self._sites.open(replace(names.key, pool=pool_id), as_maker=True) as site:
            pools = [pool for pool in spec.constrained_pools if pool.name == site.pool.name]
            if not pools or not is_reachable(pools[0].segments, spec.reachable_from):
                _Creation(site, names, spec, self._behind).move_away(reserved)
                return None
            return _Creation(site, names, bound_to(spec, pools[0]), self._behind).round(reserved, new_uuid)


class _Creation:
    """One round of a CreateVolume, its name held, and its source shared with other copies.

    site: where the image is made · names: where the name's key is
    """

    def __init__(self, site: Site, names: Site, spec: VolumeSpec, behind: "Behind") -> None:
        self._site = site
        self._spec = spec
        self._journal = site.journal
        self._name = VolumeName(names, site, spec.name)
        self._behind = behind

    def move_away(self, reserved: Reserved) -> None:
        """Clear away what was begun in a pool that this request does not allow. Raises Conflict when a volume lives there."""
        entry = self._journal.load(reserved.uuid)
        if entry is not None and entry.is_usable:
            raise Conflict(
                f"volume name {self._spec.name!r} is taken by a volume in pool {self._site.pool.name!r}, which is not of the "
                "class, or cannot be reached from where accessibility_requirements say"
            )
        if entry is None or entry.state is State.MAKING:
            self._clear_begun(entry, reserved)
        else:
            delete_entry(self._site, entry)
            release_name(self._site, entry)

    def round(self, reserved: Reserved | None, new_uuid: str) -> Volume | None:
        """None: look again."""
        entry = self._journal.load(reserved.uuid) if reserved else None
        step = decide(self._spec, reserved, entry)
        if entry is None or step is Step.TAKE_OVER:
            with ExitStack() as stack:
                try:
                    origin = stack.enter_context(self._origin())
                except Rejected:
                    self._clear_begun(entry, reserved)
                    raise
                return self._bring_about(entry, origin, reserved.uuid if reserved else None, new_uuid)
        if step is Step.REUSE:
            return self._reuse(entry)
        if step is Step.AWAIT_FLATTEN:
            return self._await_flatten(entry)
        if step is Step.AWAIT_UNDELETE:
            raise Busy(
                f"volume {self._site.handle(entry.uuid)} of this name is being brought back "
                "(`rbd-csi volume undelete`); repeat the call"
            )
        if step is Step.FINISH_DELETE:
            finish_delete(self._site, entry)
        else:
            release_name(self._site, entry)
        return None

    @contextmanager
    def _origin(self) -> Iterator[Origin | None]:
        if self._spec.source is None:
            yield None
            return
        with open_origin(self._site, self._spec.source) as origin:
            origin.size_for(self._spec)  # refused before anything is written
            origin.refuse_other_encryption(self._spec)
            yield with_depth(self._site, origin, self._spec.source, self._policy(self._spec.mutable))

    def _clear_begun(self, entry: VolumeEntry | None, reserved: Reserved | None) -> None:
        """What an earlier call began, and can no longer be finished."""
        if entry is not None:
            self._site.fence(entry)
            undo(self._site, entry)
        elif reserved is not None:
            # Under O, so that whoever claimed the name makes no O behind this that no name leads to.
            entry = self._new_entry(reserved.uuid, None)
            self._journal.begin(entry)
            undo(self._site, entry)

    def _bring_about(
        self, entry: VolumeEntry | None, origin: Origin | None, reserved: str | None, new_uuid: str
    ) -> Volume | None:
        if entry is not None:
            return self._take_over(entry, origin)
        if reserved is None and not self._name.claim(new_uuid):
            return None
        return self._begin(reserved or new_uuid, origin)

    def _new_entry(self, new_uuid: str, origin: Origin | None) -> VolumeEntry:
        spec = self._spec
        return VolumeEntry(
            is_encrypted=spec.is_encrypted,
            uuid=new_uuid,
            state=State.MAKING,
            request_name=spec.name,
            image_name=spec.image_prefix + new_uuid,
            maker=self._site.cluster.address,
            request=agreed(spec),
            size_bytes=origin.size_for(spec) if origin else spec.size_bytes,
            owner=spec.owner,
            retention_s=spec.mutable.retention_s(spec.retention_s),
            mutable=spec.mutable,
            depth=origin.depth_of_copy if origin else 0,
            cloned_from=origin.cloned_from(new_uuid) if origin else None,
            journal_pool_id=self._name.journal_pool_id,
        )

    def _begin(self, new_uuid: str, origin: Origin | None) -> Volume | None:
        entry = self._new_entry(new_uuid, origin)
        try:
            self._journal.begin(entry)
        except Rejected:  # a pool at its quota lets no object be made, and only that
            self._name.give_back(new_uuid)
            raise
        # Between claim and begin this process may have been paused for the whole life of a volume with this uuid.
        if not self._name.is_of(new_uuid):
            undo(self._site, entry)
            return None
        return self._make(entry, origin)

    def _take_over(self, entry: VolumeEntry, origin: Origin | None) -> Volume:
        self._site.fence(entry)
        taken = self._journal.take_over(entry, self._site.cluster.address)
        if taken.mutable.values != self._spec.mutable.values:  # not part of what was agreed on: the newer wish it is
            wanted = replace(self._spec.mutable, version=taken.mutable.version + 1)
            taken = self._journal.record_mutable(taken, wanted)
        remove_unmade(self._site, taken)
        return self._make(taken, origin)

    def _make(self, entry: VolumeEntry, origin: Origin | None) -> Volume:
        """The image, and the entry `complete`."""
        with self._settled(entry):
            images = self._site.pool.images
            size_bytes = entry.size_bytes or self._spec.size_bytes
            if origin and entry.cloned_from:
                size_bytes = self._clone(entry, origin, entry.cloned_from, size_bytes)
            else:
                images.create(entry.image_name, size_bytes, self._spec.layout)
            image_id = images.find_id(entry.image_name)
            if image_id is None:
                raise ClusterUnavailable(f"image {entry.image_name} has no id right after it was made; repeat the call")
            self._set_metadata(image_id, entry, size_bytes)
            depth = origin.depth_of_copy if origin else 0
            made = {layout.IMAGE_ID: image_id, layout.SIZE: str(size_bytes), layout.DEPTH: str(depth)}
            done = replace(entry, image_id=image_id, size_bytes=size_bytes, depth=depth)
            if plan(self._policy(entry.mutable), depth) is Plan.WAIT:
                return self._await_flatten(self._journal.await_flatten(done, made))
            self._journal.complete(entry, made)
        return self._handed_out(done)

    def _set_metadata(self, image_id: str, entry: VolumeEntry, size_bytes: int) -> None:
        """Whose volume it is, and its limits: before anybody has it open."""
        is_copy = entry.cloned_from is not None
        write = first_settings(entry.mutable, size_bytes, self._spec.metadata, is_copy=is_copy)
        if write != MetadataWrite():
            self._site.pool.images.write_metadata(image_id, write)

    def _policy(self, mutable: MutableParameters) -> FlattenPolicy:
        return self._spec.flatten.changed(mutable)

    def _await_flatten(self, entry: VolumeEntry) -> Volume:
        """The volume, if others have shortened its chain meanwhile. Raises StillWorking."""
        depth = depth_if_shallow(self._site, entry, self._policy(entry.mutable))
        if depth is not None:
            self._journal.record_depth(entry, depth)
            return self._volume(entry)
        self._have_flattened(entry, is_awaited=True)
        raise StillWorking(
            f"volume name {entry.request_name!r}: its image {entry.image_name} would have {entry.depth} ancestors and "
            f"hardCloneDepth is {self._policy(entry.mutable).hard_depth}, so that it is flattened before it is handed out: "
            f"{self._behind.flattener.describe(self._site, entry.image_id)}; repeat the call"
        )

    def _handed_out(self, entry: VolumeEntry) -> Volume:
        """Queued after the entry is complete; a crash in between is mended by the repeated call."""
        if plan(self._policy(entry.mutable), entry.depth or 0) is Plan.QUEUE:
            self._have_flattened(entry, is_awaited=False)
        return self._volume(entry)

    def _have_flattened(self, entry: VolumeEntry, *, is_awaited: bool) -> None:
        if enqueue(self._site, entry, is_awaited=is_awaited):
            self._behind.flattener.look_at(replace(self._site.key, pool=self._site.pool.pool_id))

    def _clone(self, entry: VolumeEntry, origin: Origin, cloned_from: ClonedFrom, size_bytes: int) -> int:
        """One clone, grown; its bytes. The snap that was cut for it goes to the trash namespace, or stays with format 1."""
        images = self._site.pool.images
        try:
            cloned_bytes = origin.cut(cloned_from)
            self._refuse_deleted(origin, cloned_from)
            self._refuse_above_limit(cloned_bytes, origin)
            made = images.clone(origin.clone_source(cloned_from, self._spec), entry.image_name, self._spec.layout)
        except ImageMissing as error:
            with self._origin():  # NotFound, if it was deleted just now
                raise ClusterUnavailable(f"the source {origin.handle} cannot be cloned: {error}") from error
        if size_bytes > cloned_bytes:
            images.grow(entry.image_name, size_bytes)
        if cloned_from.is_temporary and made is not CloneFormat.ONE:
            remove_clone_snap(self._site, entry)
            self._have_source_finished(origin)
        return max(size_bytes, cloned_bytes)

    def _refuse_deleted(self, origin: Origin, cloned_from: ClonedFrom) -> None:
        """After the cut: a delete looks for snaps after its mark, so that one of the two sees the other. Raises NotFound.

        A volume that was deleted before the cut, and held by other snaps, may have lost its data by now.
        """
        if cloned_from.is_temporary:
            with self._site.beside(origin.handle.pool_id) as there:
                load_usable(there, origin.handle)

    def _refuse_above_limit(self, size_bytes: int, origin: Origin) -> None:
        limit = self._spec.capacity.limit_bytes
        if limit and size_bytes > limit:
            raise OutOfRange(
                f"capacity_range.limit_bytes {limit} is below the {size_bytes} bytes that {origin.handle} has by now"
            )

    def _have_source_finished(self, origin: Origin) -> None:
        """A source that was deleted meanwhile was held by the snap alone, perhaps."""
        with self._site.beside(origin.handle.pool_id) as there:
            relieve(there, origin.image_id, self._behind.flattener.look_at)
            entry = there.journal.load(origin.handle.uuid)
            if entry is not None and not entry.is_usable:
                self._behind.purge_soon(replace(self._site.key, pool=origin.handle.pool_id))

    @contextmanager
    def _settled(self, entry: VolumeEntry) -> Iterator[None]:
        """A refusal leaves nothing behind; everything else leaves the entry to be taken up by the next call."""
        try:
            yield
        except Rejected as refusal:
            try:
                undo(self._site, entry)
            except Exception as trouble:  # noqa: BLE001 - whatever it is, the refusal is no longer the whole truth
                log.warning("a refused create could not be cleared away yet", volume=entry.uuid, reason=str(trouble))
                raise ClusterUnavailable(f"{refusal}; clearing it away did not end: {trouble}") from refusal
            raise
        except ImageExists as error:
            raise Inconsistent(
                f"image {entry.image_name} exists, but the journal knows no maker of it; nothing was touched"
            ) from error
        except DriverError:
            raise
        except Exception as error:
            log.exception("an unknown fault while making a volume", volume=entry.uuid)
            raise ClusterUnavailable(f"volume name {entry.request_name!r} is not finished: {error!r}") from error

    def _reuse(self, entry: VolumeEntry) -> Volume:
        if entry.state is State.COMPLETE:
            return self._handed_out(entry)
        return self._reuse_foreign(entry)

    def _reuse_foreign(self, entry: VolumeEntry) -> Volume:
        """An entry of ceph-csi. Without an image id nobody finished it, or it is of an early release: the image tells."""
        try:
            info = self._site.pool.images.inspect(entry.image_name)
        except ImageMissing:
            if entry.image_id:
                raise Inconsistent(
                    f"volume {entry.uuid} is complete in the journal, but image {entry.image_name} is missing"
                ) from None
            self._journal.take_over(entry, self._site.cluster.address)
            raise Lost(f"volume {entry.uuid} was never finished; it is made anew") from None
        if not self._spec.capacity.holds(info.size_bytes):
            raise Conflict(
                f"volume name {self._spec.name!r} is taken: it has {info.size_bytes} bytes, "
                f"asked for are at least {self._spec.capacity.required_bytes}"
            )
        return self._volume(entry, info.size_bytes)

    def _volume(self, entry: VolumeEntry, size_bytes: int = 0) -> Volume:
        context = volume_context(self._site, entry, self._spec.context, self._name.journal_pool)
        handle = str(self._site.handle(entry.uuid))
        return Volume(handle, size_bytes or entry.size_bytes, context, self._spec.source, self._spec.topology)
