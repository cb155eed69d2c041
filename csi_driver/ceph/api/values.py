"""What Ceph tells, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True)
class Watcher:
    """A client that has an image open for writing."""

    address: str
    client_id: int

    def __str__(self) -> str:
        return f"{self.address} (client.{self.client_id})"


@dataclass(frozen=True)
class HealthCheck:
    """One check of the cluster's health that failed: its code as Ceph documents it, and what it says of whom."""

    code: str
    details: tuple[str, ...]


class SnapKind(Enum):
    """RBD's snapshot namespaces; TRASH holds a removed snap that clones still need."""

    USER = 0
    GROUP = 1
    TRASH = 2
    MIRROR = 3


@dataclass(frozen=True)
class Snap:
    """A snap of an image. created_at is in seconds since the epoch, by the cluster's clock, where it was asked for.

    group, group_pool_id: of a snap that is part of a group's: the group's name, and the pool that it lies in.
    """

    snap_id: int
    name: str
    size_bytes: int
    kind: SnapKind = SnapKind.USER
    created_at: float = 0.0
    group: str = ""
    group_pool_id: int = -1


@dataclass(frozen=True)
class ImageInfo:
    """What opening an image read-only tells. `has_parent`: of its head; a shrunk image's snaps may have one still.

    is_pinned: by a flatten that goes on or was cut short; its pin is none of the snaps.
    """

    image_id: str
    size_bytes: int
    features: tuple[str, ...]
    data_pool: str
    snaps: tuple[Snap, ...]
    has_parent: bool
    watchers: tuple[Watcher, ...]
    is_pinned: bool = False


@dataclass(frozen=True)
class TrashEntry:
    """An image in the trash. kept_until: before it `purge` refuses; seconds since the epoch, rounded up to whole ones."""

    image_id: str
    name: str
    kept_until: float = 0.0


@dataclass(frozen=True)
class ParentSnap:
    """The snap that an image was cloned of, as the image's header names it."""

    pool_id: int
    namespace: str
    image_id: str
    snap_id: int


@dataclass(frozen=True, order=True)
class Child:
    """An image that is a clone, by the pool that it lies in."""

    pool_id: int
    image_id: str


@dataclass(frozen=True)
class Extent:
    """A range of bytes of an image."""

    offset: int
    length: int


@dataclass(frozen=True)
class Extents:
    """Ranges in ascending order, without overlap. next_start: where the next ones begin; None at the end of the snap."""

    found: tuple[Extent, ...]
    next_start: int | None


@dataclass(frozen=True)
class MetadataWrite:
    """One write of an image's metadata: all of it, or nothing. mark: a number beside it, put in place of `over`; 0: none."""

    put: Mapping[str, str] = field(default_factory=dict)
    drop: Sequence[str] = ()
    mark: int = 0
    over: int = 0


NO_METADATA = MetadataWrite()


@dataclass(frozen=True)
class PoolUsage:
    """What a pool holds and may hold; quotas are 0 where there is none.

    free_bytes: what can still be stored, redundancy already taken off, before a quota · stored_bytes: of data
    """

    free_bytes: int
    stored_bytes: int = 0
    objects: int = 0
    quota_bytes: int = 0
    quota_objects: int = 0
