"""All that the driver wants from Ceph: read this first. The real parts are cluster.py (librados) and images.py (librbd).

Errors of the whole seam, besides those named at each method:
  ClusterTimeout      no answer in time; a write may be done, or be done later
  ClusterUnavailable  no connection, or this client is on the blocklist
  Unauthenticated     user or key not accepted          AccessDenied  the user lacks a capability
  NoSpace             pool full or at its quota
Strings are text. Values that a `Write` compares must be ASCII: the bindings find others different from themselves.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from csi_driver.model import CloneFormat, ClusterEntry, Credentials, ImageAddress, ImageLayout


class ObjectExists(Exception):
    """An exclusive create found the object."""


class ObjectMissing(Exception):
    """The write names an object that does not exist."""


class CompareFailed(Exception):
    """A key does not hold what the write expected."""


class ImageExists(Exception):
    """The image's name is taken. It proves only that somebody began to make it."""


class ImageMissing(Exception):
    """No such image: by name, or by id in the trash."""


class ImageBusy(Exception):
    """A client watches the image, so that it cannot be removed; or another operation on it runs."""


class ImageHasSnapshots(Exception):
    """The image has snapshots, so that it cannot be removed."""


class CannotCompare(Exception):
    """The bindings cannot name the older snap."""


class FlattenStopped(Exception):
    """The flatten was not gone on with; what is copied stays so, and the next one passes over it."""


class ImageKept(Exception):
    """The trash keeps the image for a time that is not over."""


class Create(Enum):
    """What a `Write` does about the object's existence, before it compares."""

    NO = auto()
    ENSURE = auto()
    EXCLUSIVE = auto()


@dataclass(frozen=True)
class Write:
    """One atomic write operation on one object. All of it happens, or nothing.

    compare: key -> value that it must hold; "" also stands for a key that is missing.
    """

    create: Create = Create.NO
    compare: Mapping[str, str] = field(default_factory=dict)
    put: Mapping[str, str] = field(default_factory=dict)
    drop: Sequence[str] = ()
    remove_object: bool = False


class Leases(Protocol):
    """Locks that end by themselves."""

    def take_lease(self, name: str, seconds: int) -> bool:
        """Take the object's lock for this connection and so long, or for so long again; false while another one has it."""

    def is_leased(self, name: str) -> bool:
        """Whether anybody has it now."""

    def end_lease(self, name: str) -> None:
        """Give the lock back before its time; fine when it is no longer there."""


class Objects(Protocol):
    """Objects with omap keys in one pool and namespace."""

    def apply(self, name: str, write: Write) -> None:
        """Raises ObjectExists (exclusive create), ObjectMissing (compare or removal of what is not there), CompareFailed."""

    def read(self, name: str) -> dict[str, str] | None:
        """All keys of an object (however many), or None when it does not exist."""

    def read_key(self, name: str, key: str) -> str | None:
        """One key; None when the object or the key does not exist."""

    def names(self) -> Iterator[str]:
        """The names of all objects there, those of images' data among them: in a large pool that takes minutes."""

    def list_page(self, name: str, *, prefix: str, after: str, limit: int) -> list[tuple[str, str]]:
        """Keys after `after`, in byte order. A short page is not the end, an empty one is. Missing object: empty."""


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
    """What opening an image read-only tells. `has_parent`: of its head; a shrunk image's snaps may have one still."""

    image_id: str
    size_bytes: int
    features: tuple[str, ...]
    data_pool: str
    snaps: tuple[Snap, ...]
    has_parent: bool
    watchers: tuple[Watcher, ...]


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
class CloneSource:
    """A snap to be cloned: of an image by name, in a pool that may be another one than the clone's. format: of the clone.

    snap_id: of a snap that is part of a group's, which no name leads to.
    """

    pool: "Pool"
    image: str
    snap: str
    format: CloneFormat = CloneFormat.ALLOWED
    snap_id: int | None = None


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


class Images(Protocol):
    """RBD images of one pool and namespace."""

    @property
    def raw(self) -> object:
        """The library's handle of the pool, for calls that concern two pools."""

    def clone(self, source: CloneSource, name: str, layout: ImageLayout) -> CloneFormat:
        """The format that it has. Format 1 has the snap protected, and needs it; so may the other, of a protected snap.

        Raises ImageMissing (source image or snap), ImageExists; InvalidRequest, of a format that the cluster does not allow
        too: then the clone may have been made, and is removed like one that was cut short.
        """

    def protect(self, name: str, snap: str) -> None:
        """Keeps a snap from being removed, as clones of format 1 need it; fine when it is. Raises ImageMissing."""

    def cut(self, image_id: str, snap: str, *, most: int) -> Snap:
        """Makes a snap, in one open; one that is there already is it, unless a killed client left it half made.

        The caller sees to it that nobody else is making it. Raises ImageMissing; NoSpace when `most` are there, with those of
        groups.
        """

    def get_snap(self, name: str, snap: str) -> Snap:
        """A user snap of an image by name. Raises ImageMissing when either is missing."""

    def get_snap_time(self, image_id: str, snap_id: int) -> float:
        """When a snap of any kind was cut. Raises ImageMissing when either is missing."""

    def changed(self, image_id: str, snap_id: int, base_id: int | None, *, start: int) -> Extents:
        """What differs, or may, between a snap and an older one; without one, what may hold data. From `start` on, so far as
        one call goes; what is in no range is equal, or zero. Raises ImageMissing, CannotCompare.
        """

    def remove_snap(self, image_id: str, snap: str) -> None:
        """Removes a snap, protected or cut short on its way to the trash namespace or not there at all; fine then.

        Works on an image in the trash too. With clones of format 2 the snap moves to the trash namespace.
        Raises ImageMissing, ImageBusy while clones of format 1 need it.
        """

    def watchers(self, image_id: str) -> tuple[Watcher, ...]:
        """The clients that have the image open for writing; none for one that is not there.

        What `inspect` tells may name a client that died while its watch was being written, for as long as the OSD keeps the
        header in memory: nothing times that watch out, and no blocklist ends it. Here the OSD reads the header anew, and
        drops the watch at once when its client is on the blocklist, else after `osd_client_watch_timeout` (30 s).
        """

    def lock_owners(self, image_id: str) -> tuple[Watcher, ...]:
        """The clients that hold the image's exclusive lock; one on the blocklist still does, until another wants it.

        Raises ImageMissing.
        """

    def drop_trashed_snaps(self, image_id: str) -> None:
        """Removes the snaps in the trash namespace that no clone needs: whose removal was cut short. Raises ImageMissing."""

    def snap_ids(self, image_id: str) -> tuple[int, ...]:
        """Ids of all snaps of all kinds, without opening the image; none for an image that is not there."""

    def shrink(self, name: str) -> None:
        """To one byte: its data goes, its snaps keep theirs. Raises ImageMissing."""

    def create(self, name: str, size_bytes: int, layout: ImageLayout) -> None:
        """Raises ImageExists; InvalidRequest when librbd refuses the layout."""

    def list_names(self) -> dict[str, str]:
        """The ids of all images by name, without opening them; of half-made ones too."""

    def find_id(self, name: str) -> str | None:
        """The image's internal id, without opening it."""

    def find_size(self, image_id: str) -> int | None:
        """Bytes of the image's head, without opening it; None for an image that is not there."""

    def find_name(self, image_id: str) -> str | None:
        """The image's name, without opening it; None in the trash."""

    def inspect(self, name: str) -> ImageInfo:
        """Opens read-only, which leaves no watch. Raises ImageMissing."""

    def inspect_id(self, image_id: str) -> ImageInfo:
        """As `inspect`, wherever the image is: in the trash too."""

    def flatten(self, image_id: str, progress: Callable[[float], bool]) -> None:
        """Copies what the image still reads of its parent, and cuts it off.

        `progress` is told the part that is done, and answers whether to go on; it may wait, and must ask Ceph nothing. Where
        a client has the image's lock, that one copies and nothing is waited for. Raises ImageMissing, FlattenStopped.
        """

    def grow(self, name: str, size_bytes: int) -> int:
        """Grows to `size_bytes` unless it is as large already; the size afterwards. Raises ImageMissing. Never shrinks."""

    def remove(self, name: str) -> None:
        """For images never handed out. Raises ImageMissing, ImageBusy, ImageHasSnapshots."""

    def write_metadata(self, image_id: str, write: MetadataWrite) -> None:
        """Without opening the image. Raises ImageMissing, CompareFailed when another mark stands there."""

    def read_mark(self, image_id: str) -> int:
        """The mark of the last `write_metadata`; 0 without one. A clone does not inherit it."""

    def announce(self, image_id: str) -> None:
        """Have clients that have the image open for writing read its header, and so its settings, anew.

        One that does not answer in time does so when it can.
        """

    def get_metadata(self, name: str) -> dict[str, str]:
        """All keys of the image's metadata. Raises ImageMissing."""

    def move_to_trash(self, name: str, *, keep_s: int = 0) -> None:
        """Keeps it there for so many seconds. Does not refuse a watched image: look before.

        Raises ImageMissing; ImageBusy for a member of a group, with librbd from 20.2 on.
        """

    def restore_from_trash(self, image_id: str, name: str) -> None:
        """Gives an image in the trash a name again; one that was cut short is finished.

        Raises ImageMissing (not in the trash), ImageExists (the name is another image's).
        """

    def purge(self, image_id: str) -> None:
        """Removes an image from the trash, data and all; never before its time.

        Raises ImageMissing, ImageBusy, ImageHasSnapshots, ImageKept.
        """

    def find_trashed(self, image_id: str) -> TrashEntry | None: ...

    def list_trash(self) -> list[TrashEntry]: ...


class Ancestry(Protocol):
    """Chains of parents, without opening an image: those of this pool and namespace, and wherever their parents lie."""

    def has_header(self, image_id: str) -> bool:
        """Whether there is something of the image, be it that it cannot be opened."""

    def find_parent(self, image_id: str) -> ParentSnap | None:
        """None without a parent, and for an image that is gone."""

    def children(self, image_id: str, snap_id: int) -> list[Child]:
        """The clones of format 2 of a snap, wherever they lie."""

    def is_listed(self, image_id: str) -> bool:
        """Whether the snap that it names as its parent has the image among its clones.

        What is whole and not listed was taken off the list by a flatten that was cut short after all data was copied.
        """

    def count(self, image_id: str, snap_id: int | None = None) -> int:
        """Ancestors of the image's head, or of one of its snaps."""

    def list_again(self, image_id: str) -> None:
        """Puts the image back on the list of the snap that it names as its parent. Raises ImageMissing: the snap is gone."""

    def drop_parent(self, image_id: str) -> None:
        """Removes the head's link to a parent, and with deep-flatten that of the snaps. Raises ImageMissing: it has none.

        Right only where a flatten has copied all data.
        """


class Groups(Protocol):
    """RBD groups of one pool and namespace: their members may lie in other pools of the cluster.

    An image is in one group at a time. A group's snap is a snap of kind GROUP on each member, all of one moment; it stays
    when its image leaves the group.
    """

    def create(self, group: str) -> None:
        """Fine when it is there."""

    def add(self, group: str, pool: "Pool", image: str) -> None:
        """Fine when it is in. Raises ImageMissing, ImageBusy when it is in another group."""

    def take_out(self, group: str, pool: "Pool", image: str) -> None:
        """Fine when it is not in, or there is no such image or group."""

    def leave(self, image: str, image_id: str) -> None:
        """Take an image of this pool out of whatever group of this pool it is in. Raises ImageBusy for another pool's."""

    def cut(self, group: str, snap: str) -> None:
        """One moment in the order of writes over all members, which need exclusive-lock."""

    def has_snap(self, group: str, snap: str) -> bool | None:
        """False for one that was cut short, None where there is none."""

    def remove_snap(self, group: str, snap: str) -> None:
        """On all members; with clones it moves to the trash namespace there. Fine when it is not there."""

    def remove(self, group: str) -> None:
        """Its members leave it, also those in the trash. Fine when it is not there. Raises ImageBusy."""


class Pool(Protocol):
    """One pool in one rados namespace, open for one operation."""

    @property
    def name(self) -> str: ...
    @property
    def pool_id(self) -> int: ...
    @property
    def namespace(self) -> str: ...
    @property
    def objects(self) -> Objects: ...
    @property
    def leases(self) -> Leases: ...
    @property
    def images(self) -> Images: ...
    @property
    def ancestry(self) -> Ancestry: ...
    @property
    def groups(self) -> Groups: ...
    @property
    def cluster(self) -> "Cluster": ...


DAY_S = 24 * 3600


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


class Cluster(Protocol):
    """One connection to a cluster as one user."""

    @property
    def entry(self) -> ClusterEntry: ...
    @property
    def address(self) -> str:
        """This connection's own address, as the blocklist wants it."""

    @property
    def user(self) -> str:
        """The Ceph user of this connection."""

    def pool(self, pool: str | int) -> AbstractContextManager[Pool]:
        """By name or id, in the entry's namespace. Raises PoolMissing."""

    def pool_names(self) -> list[str]:
        """All pools, whether this user may open them or not."""

    def pool_ids(self) -> dict[str, int]:
        """All pools by name, whether this user may open them or not."""

    def rbd_pools(self) -> tuple[int, ...]:
        """Ids of the pools that may hold what is RBD's, in order: not those marked for other applications alone."""

    def health(self) -> tuple[HealthCheck, ...]:
        """The checks that fail just now; none in a healthy cluster."""

    def blocklisted(self) -> frozenset[str]:
        """The addresses of all clients that are cut off, as `Watcher` has them."""

    def usage(self) -> dict[str, PoolUsage]:
        """Of all pools by name, as the monitors know it: some seconds old."""

    def blocklist(self, address: str, *, seconds: int = DAY_S) -> None:
        """Cuts another client off for so long and returns when this connection has the map that says so."""

    def clones_format_2(self) -> bool:
        """Whether the cluster lets only clients in that know clone format 2 (`osd set-require-min-compat-client`)."""

    def replace(self) -> None:
        """Gives this connection up: later calls get a new one with another address."""

    def image_address(self, pool: Pool, image: str) -> ImageAddress: ...


class Clusters(Protocol):
    """The clusters that the driver knows."""

    def entry(self, cluster_id: str) -> ClusterEntry:
        """Raises InvalidRequest with the ids that are known."""

    def connect(
        self, cluster_id: str, credentials: Credentials | None, purpose: str = ""
    ) -> AbstractContextManager[Cluster]:
        """The shared connection of this user for one purpose. Each purpose has another address, fenced for itself alone.

        None: the entry's own credentials. Raises InvalidRequest without any.
        """
