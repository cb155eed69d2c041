"""What `rbd-csi volume rewrap` does: a volume's key is wrapped with another passphrase, in one write of its image's metadata.

The data key stays as it is, and so do header and data: a volume may be mounted meanwhile, and snapshots that were cut before
open as ever. Nothing of it is journalled: before the write the old passphrase unwraps the key, after it the new one, and a
repeated command finds that done. Deletes, staging and copies do not exclude it: a copy that reads the key while it changes is
refused as one with a wrong passphrase, or is made.
"""

from dataclasses import replace
from enum import Enum, auto

from csi_driver.ceph.api import ImageMissing, MetadataWrite
from csi_driver.errors import InUse, InvalidRequest, NotFound, Unauthenticated
from csi_driver.ids import Handle
from csi_driver.journal.entries import SnapshotEntry, VolumeEntry
from csi_driver.journal.layout import State
from csi_driver.kms.api import KeyHolder, Kms, KmsEntries
from csi_driver.operations.site import Site, Sites
from csi_driver.operations.volume_keys import DEK_KEY, OLD_DEK_KEY, kept_in
from csi_driver.tracing import step

_WITH_IMAGE = (State.COMPLETE, State.FOREIGN, State.FLATTENING, State.TOMBSTONE)
"""A tombstone's key is what its snapshots are restored with."""


class Rewrapped(Enum):
    """What a rewrap found."""

    DONE = auto()
    WAS_DONE = auto()  # the new passphrase unwraps it already

    @property
    def is_new(self) -> bool:
        return self is Rewrapped.DONE


class KeyRewrapping:
    """Wraps keys anew."""

    def __init__(self, sites: Sites, entries: KmsEntries) -> None:
        self._sites = sites
        self._entries = entries

    def rewrap(self, handle: Handle, old: str, new: str) -> Rewrapped:
        """Raises NotFound, InUse, InvalidRequest, Unauthenticated when neither unwraps it, Inconsistent, Unfinished."""
        with self._sites.open_of(handle, None) as site:
            entry = _load(site, handle)
            kms, holder = self._entries.find(entry.kms_id), KeyHolder(str(handle), old)
            if not kms.wraps_with_passphrase:
                raise InvalidRequest(
                    f"volume {handle} has encryptionKMSID {entry.kms_id!r}, which wraps no key with "
                    "a passphrase of the secrets"
                )
            try:
                kept = kept_in(site.pool.images.get_metadata(entry.image_name))
                image_id = entry.image_id or site.pool.images.find_id(entry.image_name) or ""
                if _unwraps(kms, replace(holder, passphrase=new), kept):
                    return Rewrapped.WAS_DONE
                wrapped = kms.keep(replace(holder, passphrase=new), kms.fetch(holder, kept))
                mark = site.pool.images.read_mark(image_id)
                with step("keys.rewrap", str(handle)):
                    write = MetadataWrite({DEK_KEY: wrapped}, (OLD_DEK_KEY,), mark=mark, over=mark)
                    site.pool.images.write_metadata(image_id, write)
            except ImageMissing as error:
                raise InUse(
                    f"the image of volume {handle} cannot be opened now: {error}; repeat the command"
                ) from error
        return Rewrapped.DONE


def _unwraps(kms: Kms, holder: KeyHolder, kept: str) -> bool:
    try:
        kms.fetch(holder, kept)
    except Unauthenticated:
        return False
    return True


def _load(site: Site, handle: Handle) -> VolumeEntry | SnapshotEntry:
    """Of a volume, or of a snapshot that is an image of its own."""
    entry = site.journal.load(handle.uuid) or site.snapshots.load(handle.uuid)
    if entry is None or entry.state not in _WITH_IMAGE:
        raise NotFound(
            f"there is no volume {handle}, or it is deleted: only what lives, or has snapshots, has a key here"
        )
    if isinstance(entry, SnapshotEntry) and entry.is_native:
        raise InvalidRequest(f"{handle} is a snapshot on its volume's image, whose key it has: rewrap the volume's")
    if not entry.kms_id:
        raise InvalidRequest(f"volume {handle} is not encrypted")
    return entry
