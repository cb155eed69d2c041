"""Reading a pool whole: entries, the directories' keys, images with their snaps and parents, the trash."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic

from csi_driver.ceph.api import ImageInfo, ImageMissing, ParentSnap
from csi_driver.errors import AccessDenied, PoolMissing
from csi_driver.journal.entries import SnapshotEntry, VolumeEntry
from csi_driver.journal.journal import E, Journal, Reserved, snapshot_journal, volume_journal
from csi_driver.journal.layout import BEGUN_PREFIX, DELETED_PREFIX, GROUPS, SNAPSHOTS, VOLUMES, Kind
from csi_driver.operations.origin import CLONE_PREFIX
from csi_driver.operations.site import Site

Progress = Callable[[str, int, int], None]
"""What is looked at, how many of it, of how many (0: unknown)."""

_PAGE = 500
_HEADER = "rbd_header."


@dataclass
class Records(Generic[E]):
    """What the journal says of volumes, or of snapshots. unreadable: uuids, with the reason."""

    kind: Kind
    entries: dict[str, E] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    names: dict[str, Reserved] = field(default_factory=dict)
    """By request name."""
    deleted: set[str] = field(default_factory=set)
    of_others: set[str] = field(default_factory=set)
    """Uuids that the directory of another driver instance in this pool names: they are that one's to audit."""
    dangling: set[str] = field(default_factory=set)
    """Request names that lead to another pool, in which there is no such entry."""


@dataclass(frozen=True)
class ImageFacts:
    """info: None when it cannot be opened · is_listed: by its parent, as one of its clones · depth: ancestors of the head"""

    image_id: str
    info: ImageInfo | None
    parent: ParentSnap | None
    is_listed: bool
    depth: int


@dataclass
class Survey:
    """A pool at about one time. pool_id: of the pool · headers: ids of all images of which there is a header."""

    pool_id: int
    volumes: Records[VolumeEntry] = field(default_factory=lambda: Records(VOLUMES))
    snapshots: Records[SnapshotEntry] = field(default_factory=lambda: Records(SNAPSHOTS))
    images: dict[str, ImageFacts] = field(default_factory=dict)
    trash: dict[str, str] = field(default_factory=dict)
    """Names by image id."""
    headers: set[str] = field(default_factory=set)
    queued: set[str] = field(default_factory=set)
    copies_elsewhere: set[str] = field(default_factory=set)
    """Uuids of copies in other pools, of volumes in this one: those for which a snap was cut."""


def survey(site: Site, progress: Progress) -> Survey:
    """Opens every image once, read-only; the objects of the pool are listed, its data objects among them."""
    found = Survey(site.pool.pool_id)
    found.queued = {one.image_id for one in site.flatten_queue.entries()}
    volumes, snapshots, directories = set[str](), set[str](), set[str]()
    for number, name in enumerate(site.pool.objects.names()):
        if not number % 10_000:
            progress("objects", number, 0)
        if name.startswith(GROUPS.object_prefix):
            continue  # begins like a volume's
        if name.startswith(VOLUMES.object_prefix):
            volumes.add(name.removeprefix(VOLUMES.object_prefix))
        elif name.startswith(SNAPSHOTS.object_prefix):
            snapshots.add(name.removeprefix(SNAPSHOTS.object_prefix))
        elif name.startswith((VOLUMES.directory_prefix, SNAPSHOTS.directory_prefix)):
            directories.add(name)
        elif name.startswith(_HEADER):
            found.headers.add(name.removeprefix(_HEADER))
    _read_records(site.journal, found.volumes, volumes, progress)
    for directory in directories:
        _read_anothers(site, found, directory)
    found.volumes.dangling = set(_dangling(site, found.volumes.names))
    _read_records(site.snapshots, found.snapshots, snapshots, progress)
    found.trash = {entry.image_id: entry.name for entry in site.pool.images.list_trash()}
    names = site.pool.images.list_names()
    for number, (name, image_id) in enumerate(names.items()):
        progress("images", number, len(names))
        found.images[name] = _facts(site, image_id)
    found.copies_elsewhere = set(_copies_elsewhere(site, found))
    return found


def _copies_elsewhere(site: Site, found: Survey) -> Iterator[str]:
    """A pool that this user may not read may hold any of them."""
    cut_for = {
        snap.name.removeprefix(CLONE_PREFIX)
        for facts in found.images.values()
        for snap in (facts.info.snaps if facts.info else ())
        if snap.name.startswith(CLONE_PREFIX)
    } - found.volumes.entries.keys()
    for pool_id in site.cluster.pool_ids().values() if cut_for else ():
        if pool_id == site.pool.pool_id:
            continue
        try:
            with site.beside(pool_id) as there:
                yield from (uuid for uuid in cut_for if there.journal.load(uuid) is not None)
        except PoolMissing:
            continue
        except (AccessDenied, ValueError):
            yield from cut_for


def _read_records(journal: Journal[E], records: Records[E], uuids: set[str], progress: Progress) -> None:
    noted = set[str]()
    for key, named in _all_names(journal):
        if key.startswith(DELETED_PREFIX):
            records.deleted.add(key.removeprefix(DELETED_PREFIX))
        elif key.startswith(BEGUN_PREFIX):
            noted.add(key.removeprefix(BEGUN_PREFIX))
        elif named:
            records.names[key.removeprefix(records.kind.object_prefix)] = named
    for number, uuid in enumerate(sorted(uuids)):
        progress(f"{records.kind.noun} entries", number, len(uuids))
        _read_entry(journal.load, records, uuid)
    for uuid in noted - uuids:
        _read_entry(journal.load_noted, records, uuid)


def _read_entry(load: Callable[[str], E | None], records: Records[E], uuid: str) -> None:
    try:
        entry = load(uuid)
    except ValueError as odd:
        records.unreadable[uuid] = str(odd)
    else:
        if entry is not None:
            records.entries[uuid] = entry


def _read_anothers(site: Site, found: Survey, directory: str) -> None:
    kind = VOLUMES if directory.startswith(VOLUMES.directory_prefix) else SNAPSHOTS
    instance = directory.removeprefix(kind.directory_prefix)
    if instance == site.instance:
        return
    if kind is VOLUMES:
        found.volumes.of_others |= _named(volume_journal(site.pool, instance))
    else:
        found.snapshots.of_others |= _named(snapshot_journal(site.pool, instance))


def _named(journal: Journal[E]) -> set[str]:
    return {reserved.uuid for _, reserved in _all_names(journal) if reserved}


def _dangling(site: Site, names: Mapping[str, Reserved]) -> Iterator[str]:
    """Of a pool that this user may not read nothing is said."""
    for name, reserved in names.items():
        if reserved.pool_id in (None, site.pool.pool_id):
            continue
        try:
            with site.beside(reserved.pool_id) as there:
                if there.journal.load(reserved.uuid) is None:
                    yield name
        except PoolMissing:
            yield name
        except (AccessDenied, ValueError):
            continue


def _all_names(journal: Journal[E]) -> Iterator[tuple[str, Reserved | None]]:
    after = ""
    while page := journal.list_names(after, _PAGE):
        yield from page
        after = page[-1][0]


def _facts(site: Site, image_id: str) -> ImageFacts:
    ancestry, info = site.pool.ancestry, None
    with suppress(ImageMissing):
        info = site.pool.images.inspect_id(image_id)
    parent = ancestry.find_parent(image_id)
    is_listed = parent is None or ancestry.is_listed(image_id)
    return ImageFacts(image_id, info, parent, is_listed, ancestry.count(image_id) if info and parent else 0)
