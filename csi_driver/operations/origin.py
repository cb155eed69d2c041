"""Where a copy comes from: a snapshot, or a volume that is copied as it is now."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from csi_driver.ceph.api import CloneSource, ImageMissing, ParentSnap, Pool
from csi_driver.errors import ClusterUnavailable, Inconsistent, InvalidRequest, NotFound, OutOfRange, PoolMissing
from csi_driver.ids import Handle
from csi_driver.journal.entries import ClonedFrom, SnapshotEntry
from csi_driver.model import SourceKind, VolumeSource, VolumeSpec
from csi_driver.operations.site import Site, load_usable, parse_handle, snapshot_lock, volume_lock
from csi_driver.operations.volume_keys import KeptKey, VolumeKeys, kept_in

CLONE_PREFIX = "csi-clone-"
"""Of the snap that is made on a volume for one clone of it, and removed with it."""

MOST_SNAPS = 450
"""On one image; the kernel client cannot map one with more than 510."""


@dataclass(frozen=True)
class Encryption:
    """Of what is copied. kms_id: empty where it is not encrypted · handle: for which its key is kept · owner: of that."""

    kms_id: str
    handle: str
    owner: str = ""


@dataclass(frozen=True)
class Origin:
    """The image that a copy is cloned of. snap is empty for a volume: one is cut for the copy alone.

    snap_id: likewise None, and for a snapshot that is an image of its own. depth: of the image or its snap; None where nobody
    has counted. encryption: None where the journal does not tell.
    """

    handle: Handle
    pool: Pool
    image: str
    image_id: str
    snap: str
    size_bytes: int
    depth: int | None
    snap_id: int | None = None
    is_of_group: bool = False
    encryption: Encryption | None = None
    data_key: str = field(default="", repr=False)
    """Where a copy has to be given it: see `with_key`."""

    @property
    def depth_of_copy(self) -> int:
        """Where the depth is known: depth.with_depth sees to it."""
        return (self.depth or 0) + 1

    def cloned_from(self, new_uuid: str) -> ClonedFrom:
        snap = self.snap or CLONE_PREFIX + new_uuid
        return ClonedFrom(self.pool.pool_id, self.image_id, snap, is_temporary=not self.snap)

    def cut(self, cloned_from: ClonedFrom, spec: VolumeSpec) -> CloneSource:
        """The snap to clone, cut now if it is this copy's own. Raises ImageMissing, NoSpace.

        It has more bytes than are recorded where the source has grown since, or its growth was cut short before that.
        """
        snap_id, size_bytes = self.snap_id, self.size_bytes
        if cloned_from.is_temporary:
            made = self.pool.images.cut(self.image_id, cloned_from.snap_name, most=MOST_SNAPS)
            snap_id, size_bytes = made.snap_id, made.size_bytes
        at = None if snap_id is None else ParentSnap(self.pool.pool_id, self.pool.namespace, self.image_id, snap_id)
        named_by = snap_id if self.is_of_group else None
        snap = cloned_from.snap_name
        return CloneSource(self.pool, self.image, snap, spec.clone_format, named_by, at, size_bytes)

    def refuse_other_encryption(self, spec: VolumeSpec) -> None:
        """Raises InvalidRequest: what a copy holds is its source's, encrypted or not."""
        if self.encryption is None:
            return
        was_encrypted = bool(self.encryption.kms_id)
        if was_encrypted != spec.is_encrypted:
            had, asked = ("encrypted" if one else "not encrypted" for one in (was_encrypted, spec.is_encrypted))
            raise InvalidRequest(
                f"parameter encrypted: the source {self.handle} is {had}, and its copy cannot be {asked}"
            )

    def with_key(self, spec: VolumeSpec, keys: VolumeKeys) -> "Origin":
        """With the data key that the copy has to be given, if it has one. Raises as `VolumeKeys.of_source`."""
        if not self.encryption or not spec.kms_id or not keys.is_needed_of(self.encryption.kms_id, spec):
            return self
        try:
            kept = kept_in(self.pool.images.get_metadata(self.image))
        except ImageMissing as error:
            raise ClusterUnavailable(f"the source {self.handle} cannot be opened: {error}; repeat the call") from error
        source = KeptKey(self.encryption.handle, self.encryption.kms_id, kept, self.encryption.owner)
        return replace(self, data_key=keys.of_source(source, spec))

    def size_for(self, spec: VolumeSpec) -> int:
        """Bytes of the copy. Raises OutOfRange when it would be smaller than its source."""
        size_bytes = spec.size_bytes or self.size_bytes
        if size_bytes < self.size_bytes:
            raise OutOfRange(
                f"capacity_range: {size_bytes} bytes are less than the {self.size_bytes} bytes of the source {self.handle}"
            )
        if spec.capacity.limit_bytes and size_bytes > spec.capacity.limit_bytes:
            raise OutOfRange(
                f"capacity_range.limit_bytes {spec.capacity.limit_bytes} is below the source's {size_bytes} bytes"
            )
        return size_bytes


def source_lock(source: VolumeSource) -> str:
    """The key that copies of one source share, and its deletion holds alone. Raises NotFound."""
    handle = parse_handle(source.handle, source.kind)
    return snapshot_lock(handle) if source.kind is SourceKind.SNAPSHOT else volume_lock(handle)


@contextmanager
def open_origin(site: Site, source: VolumeSource) -> Iterator[Origin]:
    """Raises NotFound, InvalidRequest when it is in another cluster."""
    handle = parse_handle(source.handle, source.kind)
    if handle.cluster_id != site.key.cluster_id:
        raise InvalidRequest(
            f"volume_content_source {source.handle!r} is in cluster {handle.cluster_id!r}; "
            f"a copy is made within one cluster, and the class names {site.key.cluster_id!r}"
        )
    with ExitStack() as stack:
        try:
            there = stack.enter_context(site.beside(handle.pool_id))
        except PoolMissing as error:
            raise NotFound(f"there is no {source.kind} {source.handle!r}: {error}") from error
        yield _of_volume(there, handle) if source.kind is SourceKind.VOLUME else _of_snapshot(there, handle)


def _of_volume(there: Site, handle: Handle) -> Origin:
    entry = load_usable(there, handle)
    image_id, size_bytes = entry.image_id, entry.size_bytes
    if not image_id or not size_bytes:
        image_id, size_bytes = _look(there.pool, entry.image_name)
    encryption = Encryption(entry.kms_id, str(handle), entry.owner)
    return Origin(handle, there.pool, entry.image_name, image_id, "", size_bytes, entry.depth, encryption=encryption)


def _of_snapshot(there: Site, handle: Handle) -> Origin:
    entry = load_snapshot(there, handle)
    if entry.is_native:
        return Origin(
            handle,
            there.pool,
            entry.source_image,
            entry.source_image_id,
            entry.snap_name,
            entry.size_bytes,
            entry.depth,
            entry.snap_id,
            is_of_group=bool(entry.group_handle),
            encryption=_encryption_of(there, entry.source_handle),
        )
    image_id, size_bytes = _look(there.pool, entry.image_name)
    # The Go driver wraps the key of such an image for the snapshot itself.
    encryption = Encryption(entry.kms_id, str(handle), entry.owner) if entry.kms_id else None
    image = entry.image_name
    return Origin(handle, there.pool, image, image_id, image, size_bytes, None, encryption=encryption)


def _encryption_of(there: Site, handle: str) -> Encryption | None:
    """Of a snapshot's volume; None where its entry is gone."""
    parsed = Handle.parse(handle)
    entry = there.journal.load(parsed.uuid) if parsed else None
    return Encryption(entry.kms_id, handle, entry.owner) if entry else None


def load_snapshot(site: Site, handle: Handle) -> SnapshotEntry:
    """The entry of a snapshot that exists. Raises NotFound."""
    entry = site.snapshots.load(handle.uuid)
    if entry is None or not entry.is_usable:
        raise NotFound(f"there is no snapshot {str(handle)!r}")
    return entry


def _look(pool: Pool, image: str) -> tuple[str, int]:
    try:
        info = pool.images.inspect(image)
    except ImageMissing:
        raise Inconsistent(f"image {image} is complete in the journal, but cannot be opened") from None
    return info.image_id, info.size_bytes
