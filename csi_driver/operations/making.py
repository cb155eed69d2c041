"""Making a volume's image, empty or as a clone, and its entry `complete`; and what is answered of it then.

Whatever fails leaves the entry for the next call; only a refusal that is final clears it away first.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog

from csi_driver.ceph.api import ImageExists, ImageMissing, MetadataWrite
from csi_driver.errors import (
    ClusterUnavailable,
    DriverError,
    Inconsistent,
    OutOfRange,
    Rejected,
    StillWorking,
)
from csi_driver.journal import layout
from csi_driver.journal.entries import ClonedFrom, VolumeEntry
from csi_driver.model import CloneFormat, FlattenPolicy, Volume, VolumeSpec
from csi_driver.mutable import MutableParameters
from csi_driver.operations.deletion import remove_clone_snap, undo
from csi_driver.operations.depth import Plan, depth_if_shallow, enqueue, plan, with_depth
from csi_driver.operations.description import volume_context
from csi_driver.operations.flattener import Flattener
from csi_driver.operations.limits import first_settings
from csi_driver.operations.naming import VolumeName
from csi_driver.operations.origin import Origin, open_origin
from csi_driver.operations.relief import relieve
from csi_driver.operations.site import PoolKey, Site, load_usable
from csi_driver.operations.volume_keys import VolumeKeys

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Behind:
    """What goes on behind the calls, and who keeps keys. `purge_soon` has a pool looked at."""

    purge_soon: Callable[[PoolKey], None]
    flattener: Flattener
    keys: VolumeKeys


class Making:
    """Makes what one request asks for. site: where the image is"""

    def __init__(self, site: Site, spec: VolumeSpec, name: VolumeName, behind: Behind) -> None:
        self._site = site
        self._spec = spec
        self._name = name
        self._behind = behind

    @contextmanager
    def origin(self) -> Iterator[Origin | None]:
        """What is copied, looked at; None for an empty volume. Raises Rejected before anything is written."""
        self._behind.keys.check(self._spec)
        if self._spec.source is None:
            yield None
            return
        with open_origin(self._site, self._spec.source) as origin:
            origin.size_for(self._spec)  # refused before anything is written
            origin.refuse_other_encryption(self._spec)
            known = with_depth(self._site, origin, self._spec.source, self.policy(self._spec.mutable))
            yield known.with_key(self._spec, self._behind.keys)

    def needs_no_entry(self, origin: Origin | None) -> bool:
        """Before the image is whole. A snap that is cut for the copy must be explained before it is there, and what waits for
        its flatten is told by its entry alone.
        """
        if origin is None:
            return True
        return bool(origin.snap) and plan(self.policy(self._spec.mutable), origin.depth_of_copy) is not Plan.WAIT

    def make(self, entry: VolumeEntry, origin: Origin | None) -> Volume:
        """The image, and the entry `complete`."""
        with self._settled(entry):
            images = self._site.pool.images
            size_bytes = entry.size_bytes or self._spec.size_bytes
            if origin and entry.cloned_from:
                image_id, size_bytes = self._clone(entry, origin, entry.cloned_from, size_bytes)
            else:
                metadata = self._metadata(replace(entry, size_bytes=size_bytes), "")
                image_id = images.create(entry.image_name, size_bytes, self._spec.layout, metadata)
            depth = origin.depth_of_copy if origin else 0
            made = {layout.IMAGE_ID: image_id, layout.SIZE: str(size_bytes), layout.DEPTH: str(depth)}
            done = replace(entry, image_id=image_id, size_bytes=size_bytes, depth=depth, is_noted=False)
            if plan(self.policy(entry.mutable), depth) is Plan.WAIT:
                return self.await_flatten(self._site.journal.await_flatten(done, made))
            self._site.journal.complete(entry, made)
        return self.handed_out(done)

    def _metadata(self, entry: VolumeEntry, data_key: str) -> MetadataWrite:
        """Whose volume it is, its key, and its limits."""
        is_copy = entry.cloned_from is not None
        key = self._behind.keys.metadata(str(self._site.handle(entry.uuid)), self._spec, data_key)
        return first_settings(entry.mutable, entry.size_bytes, {**self._spec.metadata, **key}, is_copy=is_copy)

    def policy(self, mutable: MutableParameters) -> FlattenPolicy:
        """The class's, as the volume's mutable parameters change it."""
        return self._spec.flatten.changed(mutable)

    def await_flatten(self, entry: VolumeEntry) -> Volume:
        """The volume, if others have shortened its chain meanwhile. Raises StillWorking."""
        depth = depth_if_shallow(self._site, entry, self.policy(entry.mutable))
        if depth is not None:
            self._site.journal.record_depth(entry, depth)
            return self.volume(entry)
        self._have_flattened(entry, is_awaited=True)
        raise StillWorking(
            f"volume name {entry.request_name!r}: its image {entry.image_name} would have {entry.depth} ancestors and "
            f"hardCloneDepth is {self.policy(entry.mutable).hard_depth}, so that it is flattened before it is handed out: "
            f"{self._behind.flattener.describe(self._site, entry.image_id)}; repeat the call"
        )

    def handed_out(self, entry: VolumeEntry) -> Volume:
        """Queued after the entry is complete; a crash in between is mended by the repeated call."""
        if plan(self.policy(entry.mutable), entry.depth or 0) is Plan.QUEUE:
            self._have_flattened(entry, is_awaited=False)
        return self.volume(entry)

    def _have_flattened(self, entry: VolumeEntry, *, is_awaited: bool) -> None:
        if enqueue(self._site, entry, is_awaited=is_awaited):
            self._behind.flattener.look_at(replace(self._site.key, pool=self._site.pool.pool_id))

    def _clone(self, entry: VolumeEntry, origin: Origin, cloned_from: ClonedFrom, size_bytes: int) -> tuple[str, int]:
        """One clone: its id and bytes. The snap that was cut for it goes to the trash namespace, or stays with format 1."""
        try:
            source = origin.cut(cloned_from, self._spec)
            if cloned_from.is_temporary:
                self._refuse_deleted(origin)
            self._refuse_above_limit(source.size_bytes, origin)
            size_bytes = max(size_bytes, source.size_bytes)
            metadata = self._metadata(replace(entry, size_bytes=size_bytes), origin.data_key)
            made = self._site.pool.images.clone(
                source, entry.image_name, self._spec.layout, size_bytes=size_bytes, metadata=metadata
            )
        except ImageMissing as error:
            with self.origin():  # NotFound, if it was deleted just now
                raise ClusterUnavailable(f"the source {origin.handle} cannot be cloned: {error}") from error
        if cloned_from.is_temporary and made.format is not CloneFormat.ONE:
            remove_clone_snap(self._site, entry)
            self._have_source_finished(origin)
        return made.image_id, size_bytes

    def _refuse_deleted(self, origin: Origin) -> None:
        """The delete of a source marks it and looks for snaps after that, so that a cut looks for the mark after itself: a
        tombstone that was shrunk meanwhile has no data any more.
        """
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

    def volume(self, entry: VolumeEntry, size_bytes: int = 0) -> Volume:
        context = volume_context(self._site, entry, self._spec.context, self._name.journal_pool)
        handle = str(self._site.handle(entry.uuid))
        return Volume(handle, size_bytes or entry.size_bytes, context, self._spec.source, self._spec.topology)
