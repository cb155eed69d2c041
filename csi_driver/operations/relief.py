"""Images with many snaps: those that only copies hold are worked off, by flattening the copies.

The snap of a clone of a volume, and a deleted snapshot with clones, stay in the trash namespace for as long as these need
them, and the kernel client maps no image with more than 510 snaps of all kinds. So from a number on each further cut has a
few copies queued, those of the oldest snaps first. A copy without deep-flatten that has snaps of its own would hold its snap
even when it is flat, and one whose class says `never` is left alone: they are passed over. Where none is left to queue, snaps
that list clones by mistake go (strays.py).
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from csi_driver.ceph.api import ImageMissing, SnapKind
from csi_driver.errors import DriverError, NotFound
from csi_driver.ids import uuid_at_end
from csi_driver.journal.layout import State
from csi_driver.model import FlattenMode
from csi_driver.notices import MANY_SNAPSHOTS, Notice
from csi_driver.operations.depth import enqueue
from csi_driver.operations.modification import class_policy
from csi_driver.operations.origin import MOST_SNAPS
from csi_driver.operations.site import PoolKey, Site
from csi_driver.operations.strays import free_trashed_snaps

log = structlog.get_logger(__name__)

RELIEF_AT = 300
"""Snaps of all kinds on one image."""
QUEUED_AT_ONCE = 8
_TELL_EVERY = 25
"""Snaps, after which the volume's users are told again, and the lists of clones are looked at."""


def relieve(site: Site, image_id: str, flatten_soon: Callable[[PoolKey], None]) -> None:
    """After a cut: one read of the header's keys, and nothing more below the number."""
    count = len(site.pool.images.snap_ids(image_id))
    if count < RELIEF_AT:
        return
    try:
        snaps = site.pool.images.inspect_id(image_id).snaps
    except ImageMissing:
        return
    queued = 0
    for snap_id in sorted(snap.snap_id for snap in snaps if snap.kind is SnapKind.TRASH):
        for child in site.pool.ancestry.children(image_id, snap_id):
            queued += _is_queued(site, child.pool_id, child.image_id, flatten_soon)
        if queued >= QUEUED_AT_ONCE:
            break
    if (count - RELIEF_AT) % _TELL_EVERY == 0:
        _tell(site, image_id, count)
        if not queued:
            with suppress(DriverError):  # a help, and no reason to refuse the cut
                free_trashed_snaps(site, image_id)
    log.info("copies of an image with many snaps are flattened", image=image_id, snaps=count, queued=queued)


def _tell(site: Site, image_id: str, count: int) -> None:
    name = site.pool.images.find_name(image_id) or ""
    entry = site.journal.load(uuid_at_end(name))
    if entry is not None and entry.image_id == image_id:
        said = f"it has {count} snapshots, copies included, of at most {MOST_SNAPS}"
        site.tell(Notice(entry.request_name, MANY_SNAPSHOTS, f"{said}: delete some, and copies of it"))


def _is_queued(site: Site, pool_id: int, image_id: str, flatten_soon: Callable[[PoolKey], None]) -> bool:
    try:
        with site.beside(pool_id) as there:
            if not _is_helped(there, image_id):
                return False
            name = there.pool.images.find_name(image_id) or ""
            entry = there.journal.load(uuid_at_end(name))
            if entry is None or entry.image_id != image_id or entry.state is not State.COMPLETE:
                return False
            if class_policy(entry).changed(entry.mutable).mode is FlattenMode.NEVER:
                return False
            is_queued = enqueue(there, entry, is_awaited=False)
    except (NotFound, ImageMissing):
        return False
    if is_queued:
        flatten_soon(replace(site.key, pool=pool_id))
    return is_queued


def _is_helped(there: Site, image_id: str) -> bool:
    """Whether flattening the copy frees the snap. Raises ImageMissing."""
    info = there.pool.images.inspect_id(image_id)
    return info.has_parent and ("deep-flatten" in info.features or not info.snaps)
