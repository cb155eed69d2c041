"""Clones of a snap, in the format that the caller wants and the cluster allows, and of a group's snap, which librbd may not
be able to clone.
"""

import errno
from collections.abc import Callable

import rbd

from csi_driver.ceph.adoption import Adoption
from csi_driver.ceph.api import CloneSource, ImageMissing, ParentSnap
from csi_driver.ceph.image_features import FEATURES
from csi_driver.ceph.image_place import Place, PlainObjects, Translate, doing
from csi_driver.ceph.image_snaps import snaps
from csi_driver.errors import InvalidRequest
from csi_driver.model import CloneFormat, ImageLayout

CLONES_BY_ID = hasattr(rbd.Group, "get_snap_info")
"""Bindings of Ceph 20.2 clone a snap by its id, and so one of a group."""

_FORMAT_2_REFUSED = (
    "parameter cloneFormat is 2, and the cluster allows clones of format 1 alone: leave the parameter out or set it to 1, "
    "or let the cluster refuse older clients (`ceph osd set-require-min-compat-client mimic`)"
)
_MOST_FORMAT_1 = 1
"""Clones of format 1 that a connection makes at once: under 64 of them librbd has aborted (docs/decisions/0013)."""


class ImageCloning:
    """The part of `RbdImages` that clones. create, find_id: that one's."""

    def __init__(  # noqa: PLR0913 - the parts of one
        self,
        place: Place,
        objects: PlainObjects,
        translate: Translate,
        *,
        adoption: Adoption,
        create: Callable[[str, int, ImageLayout], None],
        find_id: Callable[[str], str | None],
    ) -> None:
        self._place = place
        self._objects = objects
        self._translate = translate
        self._adoption = adoption
        self._create = create
        self._find_id = find_id
        self._rbd = rbd.RBD()

    def clone(self, source: CloneSource, name: str, layout: ImageLayout) -> CloneFormat:
        with doing(self._translate, "images.clone", name):
            try:
                if source.snap_id is None:
                    return self._clone_as_allowed(source, name, layout)
                if source.format is CloneFormat.ONE:
                    raise InvalidRequest(
                        "parameter cloneFormat is 1, in which snapshots of a group cannot be cloned; allowed is 2"
                    )
                if CLONES_BY_ID:
                    self._clone(source, name, layout)
                else:
                    self._clone_by_headers(source, source.snap_id, name, layout)
            except rbd.Error as error:
                if error.errno == errno.ENOSYS:
                    raise InvalidRequest(
                        f"image {source.image} has not the feature layering and cannot be cloned"
                    ) from error
                raise
            return CloneFormat.TWO

    def _clone_as_allowed(self, source: CloneSource, name: str, layout: ImageLayout) -> CloneFormat:
        """Where the cluster's oldest clients know clone format 1 alone, the snap must be protected.

        That is asked of a monitor, not tried out: librbd may not survive to refuse the clone of a snap that should have been
        protected (docs/decisions/0020).
        """
        if source.format is not CloneFormat.ONE:
            if self._allows_format_2():
                try:
                    self._clone(source, name, layout)
                except rbd.Error as error:
                    if error.errno != errno.EINVAL:
                        raise
                    self._place.learnt.allows_format_2 = False  # no longer
                else:
                    return CloneFormat.TWO
            if source.format is CloneFormat.TWO:
                raise InvalidRequest(_FORMAT_2_REFUSED)
        source.pool.images.protect(source.image, source.snap)
        self._clone(source, name, layout, is_format_1=True)
        return CloneFormat.ONE

    def _allows_format_2(self) -> bool:
        learnt = self._place.learnt
        if learnt.allows_format_2 is None:
            learnt.allows_format_2 = self._place.ask_formats()
        return learnt.allows_format_2

    def _clone_by_headers(self, source: CloneSource, snap_id: int, name: str, layout: ImageLayout) -> None:
        with rbd.Image(source.pool.images.raw, source.image, read_only=True) as image:
            if not image.features() & rbd.RBD_FEATURE_LAYERING:
                raise InvalidRequest(f"image {source.image} has not the feature layering and cannot be cloned")
            size_bytes = next((one.size_bytes for one in snaps(image) if one.snap_id == snap_id), None)
            parent = ParentSnap(source.pool.pool_id, source.pool.namespace, image.id(), snap_id)
        if size_bytes is None:
            raise ImageMissing(f"snap {source.snap}")
        self._create(name, size_bytes, layout)
        image_id = self._find_id(name)
        if image_id is None:
            raise ImageMissing(name)
        self._adoption.adopt(image_id, parent, size_bytes)

    def _clone(self, source: CloneSource, name: str, layout: ImageLayout, *, is_format_1: bool = False) -> None:
        chosen, most = ("1", _MOST_FORMAT_1) if is_format_1 else ("auto", 0)
        with self._place.making_turn(), self._place.clone_gate.hold(chosen, most=most):
            self._clone_now(source, name, layout)

    def _clone_now(self, source: CloneSource, name: str, layout: ImageLayout) -> None:
        with source.pool.images.making() as parents, self._place.making() as here:
            self._rbd.clone(
                parents,
                source.image,
                source.snap if source.snap_id is None else source.snap_id,
                here,
                name,
                features=sum(FEATURES[feature] for feature in layout.features),
                order=layout.object_size_bytes.bit_length() - 1,
                stripe_unit=layout.stripe_unit_bytes,
                stripe_count=layout.stripe_count,
                data_pool=layout.data_pool or None,
            )
