"""Limits of a volume's I/O: the image's settings, brought to where the volume's entry is.

The entry is written first, each time with a higher number. The settings follow in one write on the image's header that
compares the number it carries and puts the entry's own in its place: of two calls the newer one's settings stay, whichever
comes first, and a write that was given up and arrives late changes nothing.
"""

from collections.abc import Mapping

from csi_driver.ceph.api import CompareFailed, ImageMissing, Images, MetadataWrite
from csi_driver.errors import Busy, InvalidRequest
from csi_driver.journal.entries import VolumeEntry
from csi_driver.journal.layout import State
from csi_driver.model import KUBERNETES_METADATA
from csi_driver.mutable import ALL_SETTINGS, MutableParameters
from csi_driver.operations.site import Site, unopened
from csi_driver.operations.volume_keys import DEK_KEYS

_ROUNDS = 8


def refuse_unenforced(parameters: MutableParameters, entry: VolumeEntry) -> None:
    """Raises InvalidRequest for limits of a volume that another driver made: their settings may be that driver's own."""
    if parameters.has_limits and entry.request is None:
        raise InvalidRequest(
            "mutable_parameters: the volume was made by another driver, and the journal does not tell its mounter, so that "
            "nobody is known to hold limits; allowed are flatten, softCloneDepth, hardCloneDepth and trashRetention"
        )


def first_settings(
    parameters: MutableParameters, size_bytes: int, metadata: Mapping[str, str], *, is_copy: bool
) -> MetadataWrite:
    """For an image that nobody has seen yet, with other `metadata`. A clone brings along what its source has of both, and
    its source's wrapped key."""
    put = {**metadata, **parameters.settings(size_bytes)}
    of_source = (*ALL_SETTINGS, *KUBERNETES_METADATA, *DEK_KEYS) if is_copy else ()
    inherited = tuple(name for name in of_source if name not in put)
    return MetadataWrite(put=put, drop=inherited, mark=parameters.version)


def settle(site: Site, entry: VolumeEntry) -> None:
    """Have the image's settings follow the entry, and clients that have it open take them over."""
    if entry.state is State.FOREIGN or not entry.mutable.version:
        return
    images = site.pool.images
    try:
        _write(images, entry)
        images.announce(entry.image_id)
    except ImageMissing:
        raise unopened(site, entry) from None


def _write(images: Images, entry: VolumeEntry) -> None:
    wanted = entry.mutable.version
    settings = entry.mutable.settings(entry.size_bytes)
    for _ in range(_ROUNDS):
        present = images.read_mark(entry.image_id)
        if present >= wanted:
            return  # this call's, or a newer one's
        drop = tuple(name for name in ALL_SETTINGS if name not in settings)
        try:
            images.write_metadata(entry.image_id, MetadataWrite(settings, drop, mark=wanted, over=present))
        except CompareFailed:
            continue
        return
    raise Busy(f"the settings of image {entry.image_name} are being changed by other processes; repeat the call")
