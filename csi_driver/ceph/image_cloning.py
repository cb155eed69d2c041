"""Clones of a snap, in the format that the caller wants and the cluster allows.

Those of format 2 are made past librbd where the new image is (image_making.py): it would open the parent and the clone, and
cannot name a group's snap before Ceph 20.2.
"""

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import rbd

from csi_driver.ceph.adoption import Adoption
from csi_driver.ceph.api import Cloned, CloneSource, ImageMissing, MetadataWrite, ParentSnap, SnapKind
from csi_driver.ceph.image_features import FEATURES
from csi_driver.ceph.image_making import ImageMaker
from csi_driver.ceph.image_metadata import header_keys
from csi_driver.ceph.image_place import Place, Translate, doing
from csi_driver.ceph.image_snaps import snaps
from csi_driver.errors import InvalidRequest
from csi_driver.model import CloneFormat, ImageLayout

CLONES_BY_ID = hasattr(rbd.Group, "get_snap_info")
"""Bindings of Ceph 20.2 clone a snap by its id, and so one of a group."""

_FORMAT_2_REFUSED = (
    "parameter cloneFormat is 2, and the cluster allows clones of format 1 alone: leave the parameter out or set it to 1, "
    "or let the cluster refuse older clients (`ceph osd set-require-min-compat-client mimic`)"
)
_OF_GROUP = "parameter cloneFormat is 1, in which snapshots of a group cannot be cloned; allowed is 2"
_MOST_FORMAT_1 = 1
"""Clones of format 1 that a connection makes at once: under 64 of them librbd has aborted (docs/decisions/0013)."""
_KNOWN_S = 60.0
"""For which the cluster's answer is believed, of what it allows."""


@dataclass(frozen=True)
class WantedClone:
    """What is to be made of a snap. size_bytes: at least so many · metadata: what is changed of what it inherits."""

    name: str
    layout: ImageLayout
    size_bytes: int
    metadata: MetadataWrite


Make = Callable[[str, int, ImageLayout], str]


class ImageCloning:
    """The part of `RbdImages` that clones. make: an image, within a turn of making; its id."""

    def __init__(self, place: Place, translate: Translate, maker: ImageMaker, adoption: Adoption, make: Make) -> None:
        self._place = place
        self._translate = translate
        self._maker = maker
        self._adoption = adoption
        self._make = make
        self._rbd = rbd.RBD()

    def clone(self, source: CloneSource, wanted: WantedClone) -> Cloned:
        """Without an id: made by librbd, and neither grown nor its metadata changed."""
        with doing(self._translate, "images.clone", wanted.name):
            try:
                if source.snap_id is None and self._has_format_1(source.format):
                    source.pool.images.protect(source.image, source.snap)
                    self._clone_by_librbd(source, wanted, is_format_1=True)
                    return Cloned("", CloneFormat.ONE)
                if source.format is CloneFormat.ONE:
                    raise InvalidRequest(_OF_GROUP)
                return Cloned(self._clone_format_2(source, wanted), CloneFormat.TWO)
            except rbd.Error as error:
                if error.errno == errno.ENOSYS:
                    raise _without_layering(source) from error
                raise

    def _has_format_1(self, wanted: CloneFormat) -> bool:
        """Where the cluster's oldest clients know clone format 1 alone, the snap must be protected.

        That is asked of a monitor, not tried out: librbd may not survive to refuse the clone of a snap that should have been
        protected (docs/decisions/0020). Raises InvalidRequest.
        """
        if wanted is CloneFormat.ONE:
            return True
        if self._allows_format_2():
            return False
        if wanted is CloneFormat.TWO:
            raise InvalidRequest(_FORMAT_2_REFUSED)
        return True

    def _allows_format_2(self) -> bool:
        learnt, now = self._place.learnt, time.monotonic()
        if now - learnt.asked_formats_at > _KNOWN_S:
            learnt.allows_format_2, learnt.asked_formats_at = self._place.ask_formats(), now
        return learnt.allows_format_2

    def _clone_format_2(self, source: CloneSource, wanted: WantedClone) -> str:
        """Empty: made by librbd."""
        librbd_can = source.snap_id is None or CLONES_BY_ID
        if librbd_can and not self._maker.can_make(max(source.size_bytes, wanted.size_bytes), wanted.layout):
            self._clone_by_librbd(source, wanted)
            return ""
        parent, overlap_bytes = (source.at, source.size_bytes) if source.at else _locate(source)
        if "layering" not in wanted.layout.features or not self._adoption.has_layering(parent):
            raise _without_layering(source)
        inherited = self._adoption.metadata_of(parent)
        kept = {name: text for name, text in inherited.items() if name not in wanted.metadata.drop}
        keys = header_keys(replace(wanted.metadata, put={**kept, **wanted.metadata.put}))
        with self._place.making_turn():
            size_bytes = max(overlap_bytes, wanted.size_bytes)
            image_id = self._make(wanted.name, size_bytes, wanted.layout)
            self._adoption.adopt(image_id, parent, overlap_bytes, keys)
        return image_id

    def _clone_by_librbd(self, source: CloneSource, wanted: WantedClone, *, is_format_1: bool = False) -> None:
        chosen, most = ("1", _MOST_FORMAT_1) if is_format_1 else ("auto", 0)
        with (
            self._place.making_turn(),
            self._place.clone_gate.hold(chosen, most=most),
            source.pool.images.making() as parents,
            self._place.making() as here,
        ):
            layout = wanted.layout
            self._rbd.clone(
                parents,
                source.image,
                source.snap if source.snap_id is None else source.snap_id,
                here,
                wanted.name,
                features=sum(FEATURES[feature] for feature in layout.features),
                order=layout.object_size_bytes.bit_length() - 1,
                stripe_unit=layout.stripe_unit_bytes,
                stripe_count=layout.stripe_count,
                data_pool=layout.data_pool or None,
            )


def _locate(source: CloneSource) -> tuple[ParentSnap, int]:
    """The snap, and its bytes. One whose cut was killed half-way cannot be opened. Raises rbd.Error, ImageMissing."""
    pool = source.pool
    snap = source.snap if source.snap_id is None else None
    with pool.images.making() as ioctx, rbd.Image(ioctx, source.image, snapshot=snap, read_only=True) as image:
        for one in snaps(image):
            if one.snap_id == source.snap_id or (one.kind is SnapKind.USER and one.name == snap):
                return ParentSnap(pool.pool_id, pool.namespace, image.id(), one.snap_id), one.size_bytes
    raise ImageMissing(f"snap {source.snap}")


def _without_layering(source: CloneSource) -> InvalidRequest:
    return InvalidRequest(f"image {source.image} has not the feature layering and cannot be cloned")
