"""ControllerModifyVolume: the entry first, then the image's settings (limits.py), then the flatten queue.

A crash in between is finished by the repeated call, which finds the entry as it wants it and goes on from there.
"""

from collections.abc import Mapping
from dataclasses import replace

from csi_driver.addresses import Credentials
from csi_driver.journal.entries import VolumeEntry
from csi_driver.locks import KeyedLocks
from csi_driver.model import FlattenMode, FlattenPolicy
from csi_driver.mutable import FLATTEN_KEYS, Value
from csi_driver.operations import limits
from csi_driver.operations.depth import Plan, enqueue, plan
from csi_driver.operations.flattener import Flattener
from csi_driver.operations.site import Site, Sites, load_usable, parse_handle, volume_lock


class VolumeModification:
    """Changes volumes that live."""

    def __init__(self, sites: Sites, locks: KeyedLocks, flattener: Flattener) -> None:
        self._sites = sites
        self._locks = locks
        self._flattener = flattener

    def modify(self, volume_id: str, change: Mapping[str, Value], credentials: Credentials | None) -> None:
        """Set these keys and leave the others. Raises NotFound, InvalidRequest (nothing is changed then), Unfinished."""
        handle = parse_handle(volume_id)
        with self._locks.hold(volume_lock(handle)), self._sites.open_of(handle, credentials, as_maker=True) as site:
            entry = load_usable(site, handle)
            wanted = entry.mutable.changed(change)
            policy = class_policy(entry).changed(wanted)
            wanted.check_limits()
            limits.refuse_unenforced(wanted, entry)
            if wanted != entry.mutable:
                entry = site.journal.record_mutable(entry, wanted)
            limits.settle(site, entry)
            if change.keys() & set(FLATTEN_KEYS) and _needs_flatten(site, entry, policy):
                self._flattener.look_at(replace(site.key, pool=site.pool.pool_id))


def class_policy(entry: VolumeEntry) -> FlattenPolicy:
    """As the class had it when the volume was made."""
    if entry.request is None or "flatten" not in entry.request:
        return FlattenPolicy()
    given = entry.request["flatten"]
    return FlattenPolicy(FlattenMode(given["mode"]), given["soft_depth"], given["hard_depth"])


def _needs_flatten(site: Site, entry: VolumeEntry, policy: FlattenPolicy) -> bool:
    """Queue the image when it is too deep for its new policy; whether it is. Its chain may have become shorter."""
    if not entry.image_id:
        return False
    depth = site.pool.ancestry.count(entry.image_id)
    return plan(policy, depth) in (Plan.QUEUE, Plan.WAIT) and enqueue(site, entry, is_awaited=False)
