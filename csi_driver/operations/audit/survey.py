"""Reading a pool whole: entries, the directories' keys, images with their snaps and parents, the trash."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic

from csi_driver.ceph.api import ImageInfo, ImageMissing, ParentSnap
from csi_driver.errors import AccessDenied, PoolMissing
from csi_driver.journal.entries import SnapshotEntry, VolumeEntry
from csi_driver.journal.group_entries import GroupEntry, Member, group_journal
from csi_driver.journal.journal import Journal, snapshot_journal, volume_journal
from csi_driver.journal.layout import BEGUN_PREFIX, DELETED_PREFIX, GROUPS, SNAPSHOTS, VOLUMES, Kind, State
from csi_driver.journal.reading import E, Reserved
from csi_driver.kms.format import NotAWrappedKey, parse
from csi_driver.operations.group_deletion import GROUP_SNAP
from csi_driver.operations.origin import CLONE_PREFIX
from csi_driver.operations.site import Site
from csi_driver.operations.volume_keys import DEK_KEY, kept_in

Progress = Callable[[str, int, int], None]
"""What is looked at, how many of it, of how many (0: unknown)."""

_PAGE = 500
_HEADER, _OBJECT_MAP = "rbd_header.", "rbd_object_map."
_KINDS = (GROUPS, VOLUMES, SNAPSHOTS)
"""Groups first: their objects' names begin like those of volumes."""
_DIRECTORIES = tuple(kind.directory_prefix for kind in _KINDS)


@dataclass
class Records(Generic[E]):
    """What the journal says of volumes, of snapshots or of groups. unreadable: uuids, with the reason."""

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
    """A pool at about one time. pool_id: of the pool · headers, object_maps: ids of all images of which there is one."""

    pool_id: int
    volumes: Records[VolumeEntry] = field(default_factory=lambda: Records(VOLUMES))
    snapshots: Records[SnapshotEntry] = field(default_factory=lambda: Records(SNAPSHOTS))
    groups: Records[GroupEntry] = field(default_factory=lambda: Records(GROUPS))
    rbd_groups: frozenset[str] = frozenset()
    broken_groups: dict[str, str] = field(default_factory=dict)
    """Complete group snapshots of which something is gone: what, by uuid."""
    images: dict[str, ImageFacts] = field(default_factory=dict)
    keyless: dict[str, str] = field(default_factory=dict)
    """Encrypted volumes whose images have no key that can be read: why, by uuid."""
    trash: dict[str, str] = field(default_factory=dict)
    """Names by image id."""
    headers: set[str] = field(default_factory=set)
    object_maps: set[str] = field(default_factory=set)
    queued: set[str] = field(default_factory=set)
    copies_elsewhere: set[str] = field(default_factory=set)
    """Uuids of copies in other pools, of volumes in this one: those for which a snap was cut."""


def survey(site: Site, progress: Progress) -> Survey:
    """Opens every image once, read-only; the objects of the pool are listed, its data objects among them."""
    found = Survey(site.pool.pool_id)
    found.queued = {one.image_id for one in site.flatten_queue.entries()}
    objects = _read_objects(site, progress)
    found.headers, found.object_maps = objects.headers, objects.object_maps
    _read_records(site.journal, found.volumes, objects.uuids[VOLUMES], progress)
    for directory in objects.directories:
        _read_anothers(site, found, directory)
    found.volumes.dangling = set(_dangling(site, found.volumes.names))
    _read_records(site.snapshots, found.snapshots, objects.uuids[SNAPSHOTS], progress)
    # Groups before entries: a group is made after its entry, and removed before it.
    found.rbd_groups = frozenset(site.pool.groups.list_names())
    _read_records(site.groups, found.groups, objects.uuids[GROUPS], progress)
    found.broken_groups = dict(_broken_groups(site, found))
    found.trash = {entry.image_id: entry.name for entry in site.pool.images.list_trash()}
    names = site.pool.images.list_names()
    for number, (name, image_id) in enumerate(names.items()):
        progress("images", number, len(names))
        found.images[name] = _facts(site, image_id)
    found.copies_elsewhere = set(_copies_elsewhere(site, found))
    found.keyless = dict(_keyless(site, found))
    return found


@dataclass
class _Objects:
    """Of the journal and of librbd, by their names."""

    uuids: dict[Kind, set[str]] = field(default_factory=lambda: {kind: set() for kind in _KINDS})
    directories: set[str] = field(default_factory=set)
    headers: set[str] = field(default_factory=set)
    object_maps: set[str] = field(default_factory=set)


def _read_objects(site: Site, progress: Progress) -> _Objects:
    found = _Objects()
    for number, name in enumerate(site.pool.objects.names()):
        if not number % 10_000:
            progress("objects", number, 0)
        if kind := next((one for one in _KINDS if name.startswith(one.object_prefix)), None):
            found.uuids[kind].add(name.removeprefix(kind.object_prefix))
        elif name.startswith(_DIRECTORIES):
            found.directories.add(name)
        elif name.startswith(_HEADER):
            found.headers.add(name.removeprefix(_HEADER))
        elif name.startswith(_OBJECT_MAP):
            found.object_maps.add(name.removeprefix(_OBJECT_MAP))
    return found


def _broken_groups(site: Site, found: Survey) -> Iterator[tuple[str, str]]:
    for entry in found.groups.entries.values():
        if entry.state is not State.COMPLETE or entry.uuid in found.groups.of_others:
            continue
        if entry.image_name not in found.rbd_groups:
            yield entry.uuid, f"there is no RBD group {entry.image_name}"
        elif not site.pool.groups.has_snap(entry.image_name, GROUP_SNAP):
            yield entry.uuid, f"RBD group {entry.image_name} has no whole snap"
        elif lost := [one.source_handle for one in entry.members if _is_lost(site, one)]:
            yield entry.uuid, f"the snapshots of {', '.join(lost)} are gone"


def _keyless(site: Site, found: Survey) -> Iterator[tuple[str, str]]:
    """Only where the KMS entries say that the image must have it."""
    for entry in found.volumes.entries.values():
        facts = found.images.get(entry.image_name)
        if not entry.kms_id or not entry.is_usable or not facts or not facts.info:
            continue
        with suppress(ImageMissing):
            kept = kept_in(site.pool.images.get_metadata(entry.image_name))
            try:
                if kept:
                    parse(kept)
                elif site.keys.is_in_metadata(entry.kms_id):
                    yield entry.uuid, f"there is no {DEK_KEY}"
            except NotAWrappedKey as odd:
                yield entry.uuid, f"{DEK_KEY} cannot be read: {odd}"


def _is_lost(site: Site, member: Member) -> bool:
    """Of a pool that this user may not read nothing is said."""
    try:
        with site.beside(member.pool_id) as there:
            snapshot = there.snapshots.load(member.snapshot_uuid)
            return snapshot is None or snapshot.snap_id not in there.pool.images.snap_ids(member.image_id)
    except PoolMissing:
        return True
    except (AccessDenied, ValueError):
        return False


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
    kind = next(one for one in _KINDS if directory.startswith(one.directory_prefix))
    instance = directory.removeprefix(kind.directory_prefix)
    if instance == site.instance:
        return
    if kind is VOLUMES:
        found.volumes.of_others |= _named(volume_journal(site.pool, instance))
    elif kind is GROUPS:
        found.groups.of_others |= _named(group_journal(site.pool, instance))
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
