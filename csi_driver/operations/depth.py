"""How deep a copy would be, and what that means for it.

The journal's depths are upper bounds: a flatten of an ancestor makes chains shorter, never longer. So before a copy is
refused or has to wait, the chain is counted, and the source's entry corrected.
"""

import time
from dataclasses import replace
from enum import Enum, auto

from csi_driver.ceph.api import ImageMissing
from csi_driver.errors import NoSpace, NotFound
from csi_driver.journal.entries import VolumeEntry
from csi_driver.journal.flatten_queue import QueueEntry
from csi_driver.journal.reading import Lost
from csi_driver.model import FlattenMode, FlattenPolicy, SourceKind, VolumeSource
from csi_driver.operations.origin import Origin
from csi_driver.operations.site import Site, load_usable


class Plan(Enum):
    """What becomes of a copy of this depth."""

    KEEP = auto()  # handed out as it is
    QUEUE = auto()  # handed out, and flattened behind the answer
    WAIT = auto()  # flattened before it is handed out
    REFUSE = auto()


def plan(policy: FlattenPolicy, depth: int) -> Plan:
    if depth >= policy.hard_depth:
        return Plan.REFUSE if policy.mode is FlattenMode.NEVER else Plan.WAIT
    is_queued = policy.mode is FlattenMode.ALWAYS or (policy.mode is FlattenMode.LAZY and depth > policy.soft_depth)
    return Plan.QUEUE if depth and is_queued else Plan.KEEP


def with_depth(site: Site, origin: Origin, source: VolumeSource, policy: FlattenPolicy) -> Origin:
    """The origin with a depth that is known, and counted where it matters. Raises NoSpace when a copy is refused."""
    if origin.depth is None or plan(policy, origin.depth + 1) in (Plan.WAIT, Plan.REFUSE):
        origin = _counted(site, origin, source)
    depth = origin.depth_of_copy
    if plan(policy, depth) is Plan.REFUSE:
        raise NoSpace(
            f"parameter flatten is never and hardCloneDepth {policy.hard_depth}: a copy of {origin.handle} would have "
            f"{depth} ancestors; copy a volume with fewer, raise hardCloneDepth, or set flatten to lazy"
        )
    return origin


def _counted(site: Site, origin: Origin, source: VolumeSource) -> Origin:
    depth = origin.pool.ancestry.count(origin.image_id, origin.snap_id)
    if depth != origin.depth:
        try:
            with site.beside(origin.handle.pool_id) as there:
                if source.kind is SourceKind.VOLUME:
                    there.journal.record_depth(load_usable(there, origin.handle), depth)
                elif (snapshot := there.snapshots.load(origin.handle.uuid)) is not None:
                    there.snapshots.record_depth(snapshot, depth)
        except (Lost, NotFound):
            pass  # changed just now: this copy goes by what was counted, and the next one counts again
    return replace(origin, depth=depth)


def enqueue(site: Site, entry: VolumeEntry, *, is_awaited: bool) -> bool:
    """Have a copy flattened, unless it has no parent any more; whether it has one."""
    parent = site.pool.ancestry.find_parent(entry.image_id)
    if parent is None:
        return False
    site.flatten_queue.add(
        QueueEntry(entry.image_id, entry.uuid, entry.image_name, parent, is_awaited, queued_at=time.time())
    )
    return True


def depth_if_shallow(site: Site, entry: VolumeEntry, policy: FlattenPolicy) -> int | None:
    """The depth of a copy that waited, once it can be handed out. A flatten cut short may need a repair before."""
    depth = site.pool.ancestry.count(entry.image_id)
    if plan(policy, depth) in (Plan.WAIT, Plan.REFUSE):
        return None
    try:
        site.pool.images.inspect_id(entry.image_id)
    except ImageMissing:
        return None
    return depth
