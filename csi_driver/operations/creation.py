"""CreateVolume: empty volumes, and copies of snapshots and volumes.

`decide` says what has to be done, given what a crash or another process may have left; its rows are those of the table in
the journal's docstring. `VolumeCreation` does it; the image is made in making.py.
"""

import uuid
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum, auto

import structlog

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import ImageMissing
from csi_driver.errors import (
    Busy,
    Conflict,
    Inconsistent,
    InvalidRequest,
    PoolMissing,
    Rejected,
)
from csi_driver.ids import uuid_at_end
from csi_driver.journal.entries import VolumeEntry
from csi_driver.journal.layout import State
from csi_driver.journal.reading import Lost, Reserved
from csi_driver.locks import KeyedLocks
from csi_driver.model import Volume, VolumeSpec
from csi_driver.operations.agreement import agreed, difference
from csi_driver.operations.deletion import (
    delete_entry,
    finish_delete,
    release_name,
    remove_unmade,
    undo,
)
from csi_driver.operations.making import Behind, Making
from csi_driver.operations.naming import RecentNames, StaleNotes, VolumeName
from csi_driver.operations.origin import Origin, source_lock
from csi_driver.operations.refusals import REFUSALS, told
from csi_driver.operations.site import PoolKey, Site, Sites
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


class VolumeCreation:
    """Makes volumes."""

    def __init__(self, sites: Sites, locks: KeyedLocks, behind: "Behind") -> None:
        self._sites = sites
        self._locks = locks
        self._behind = behind
        self._recent = RecentNames()
        self._stale = StaleNotes()

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
        key = names.name_lock(spec.name)
        believed = self._recent.add(key)
        # A new name is claimed without looking: the claim itself tells when it is taken.
        may_be_taken = believed is not None or bool(spec.constrained_pools)
        for _ in range(_ROUNDS):
            reserved, entry = _look(names, spec, believed) if may_be_taken else (None, None)
            may_be_taken, believed = True, None
            try:
                if volume := self._round(names, spec, reserved, entry):
                    self._recent.learn(key, uuid_at_end(volume.handle))
                    return volume
            except Lost as lost:
                log.info("following another process", reason=str(lost))
            except REFUSALS as refusal:
                raise told(refusal, names.journal, spec.name) from refusal
        raise Busy(f"volume name {spec.name!r} is being worked on by other processes; repeat the call")

    def _round(
        self, names: Site, spec: VolumeSpec, reserved: Reserved | None, entry: VolumeEntry | None
    ) -> Volume | None:
        """None: look again."""
        if not spec.constrained_pools:
            if reserved and reserved.pool_id not in (None, names.pool.pool_id):
                raise Conflict(f"volume name {spec.name!r} is taken by a volume in the pool with id {reserved.pool_id}")
            return self._creation(names, names, spec).round(reserved, entry)
        if reserved is None:
            bound = bound_to(spec, choose_pool(spec))
            with self._sites.open(replace(names.key, pool=bound.pool), as_maker=True) as site:
                return self._creation(site, names, bound).round(None)
        pool_id = names.pool.pool_id if reserved.pool_id is None else reserved.pool_id
        with self._sites.open(replace(names.key, pool=pool_id), as_maker=True) as site:
            pools = [pool for pool in spec.constrained_pools if pool.name == site.pool.name]
            if not pools or not is_reachable(pools[0].segments, spec.reachable_from):
                self._creation(site, names, spec).move_away(reserved)
                return None
            return self._creation(site, names, bound_to(spec, pools[0])).round(reserved)

    def _creation(self, site: Site, names: Site, spec: VolumeSpec) -> "_Creation":
        return _Creation(site, spec, VolumeName(names, site, spec.name), self._stale, self._behind)


def _look(names: Site, spec: VolumeSpec, believed: str | None) -> tuple[Reserved | None, VolumeEntry | None]:
    """K, and its entry where that has been read.

    K goes only after a delete has begun, and an undelete makes the entry its own: what this process made is still what its
    name says, as long as it is complete and this process's. Then K is not read (docs/decisions/0041).
    """
    if believed and not spec.constrained_pools:
        entry = names.journal.load(believed)
        if entry and _is_own(names, spec, entry):
            return Reserved(believed), entry
    return names.journal.find(spec.name), None


def _is_own(names: Site, spec: VolumeSpec, entry: VolumeEntry) -> bool:
    is_whole = entry.state is State.COMPLETE and entry.request_name == spec.name
    return is_whole and entry.maker == names.cluster.address


class _Creation:
    """One round of a CreateVolume, its name held, and its source shared with other copies. site: where the image is made"""

    def __init__(self, site: Site, spec: VolumeSpec, name: VolumeName, stale: StaleNotes, behind: "Behind") -> None:
        self._site = site
        self._spec = spec
        self._journal = site.journal
        self._name = name
        self._stale = stale
        self._making = Making(site, spec, name, behind)

    def move_away(self, reserved: Reserved) -> None:
        """Clear away what was begun in a pool that this request does not allow. Raises Conflict when a volume lives there."""
        entry = self._load(reserved)
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

    def round(self, reserved: Reserved | None, entry: VolumeEntry | None = None) -> Volume | None:
        """None: look again. entry: where it has been read."""
        if entry is None and reserved is not None:
            entry = self._load(reserved)
        step = decide(self._spec, reserved, entry)
        if entry is None or step is Step.TAKE_OVER:
            with ExitStack() as stack:
                try:
                    origin = stack.enter_context(self._making.origin())
                except Rejected:
                    if reserved is None and self._name.is_taken():
                        return None  # by what was made before its source went
                    self._clear_begun(entry, reserved)
                    raise
                if origin and not origin.snap:  # one is cut, and removed when the clone is there
                    stack.enter_context(origin.pool.images.open_ahead(origin.image_id, uses=2))
                return self._bring_about(entry, origin, reserved.uuid if reserved else None)
        if step is Step.REUSE:
            return self._reuse(entry)
        if step is Step.AWAIT_FLATTEN:
            return self._making.await_flatten(entry)
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

    def _load(self, reserved: Reserved) -> VolumeEntry | None:
        return self._journal.load(reserved.uuid) or self._journal.load_noted(reserved.uuid)

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

    def _bring_about(self, entry: VolumeEntry | None, origin: Origin | None, reserved: str | None) -> Volume | None:
        if entry is not None:
            return self._take_over(entry, origin)
        new_uuid = reserved or str(uuid.uuid4())
        if reserved is None and self._name.is_beside_image and self._making.needs_no_entry(origin):
            return self._begin_at_name(new_uuid, origin)
        if reserved is None and not self._name.claim(new_uuid):
            return None
        return self._begin(new_uuid, origin)

    def _begin_at_name(self, new_uuid: str, origin: Origin | None) -> Volume | None:
        """What the volume begins with stands beside its name, and its entry is written once, when it is whole."""
        entry = replace(self._new_entry(new_uuid, origin), is_noted=True)
        place = f"{self._site.key.cluster_id}/{self._site.pool.pool_id}"
        stale = self._stale.take(place)
        try:
            if not self._name.claim_noted(entry, stale):
                return None
        except Rejected:
            # In a full pool nothing is written, and a volume of this name may be there all the same.
            if self._name.is_taken():
                return None
            raise
        volume = self._making.make(entry, origin)
        self._stale.add(place, new_uuid)
        return volume

    def _new_entry(self, new_uuid: str, origin: Origin | None) -> VolumeEntry:
        spec = self._spec
        return VolumeEntry(
            kms_id=spec.kms_id,
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
        return self._making.make(entry, origin)

    def _take_over(self, entry: VolumeEntry, origin: Origin | None) -> Volume:
        self._site.fence(entry)
        taken = self._journal.take_over(entry, self._site.cluster.address)
        if taken.mutable.values != self._spec.mutable.values:  # not part of what was agreed on: the newer wish it is
            wanted = replace(self._spec.mutable, version=taken.mutable.version + 1)
            taken = self._journal.record_mutable(taken, wanted)
        remove_unmade(self._site, taken)
        return self._making.make(taken, origin)

    def _reuse(self, entry: VolumeEntry) -> Volume:
        if entry.state is State.COMPLETE:
            return self._making.handed_out(entry)
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
        return self._making.volume(entry, info.size_bytes)
