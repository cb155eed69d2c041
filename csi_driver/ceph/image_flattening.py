"""The part of `Images` that flattens, and keeps what is cut meanwhile readable.

Without deep-flatten a snap that is cut before the end keeps its link to the parent. librbd looks for such snaps, takes an
image without any off its parent's list, with which a trashed snap of the parent goes, and removes the link of the head at
last. A snap that is cut in between could not be opened any more (docs/decisions/0027). So there is one snap, the pin, from
before a flatten until after it: the image stays on the list, and leaves it with the last snap that has the link.
"""

import errno
from collections.abc import Callable

import rbd

from csi_driver.ceph.api import FlattenStopped
from csi_driver.ceph.image_calls import ImageCalls
from csi_driver.ceph.image_snaps import has_parent, pin, unpin


class FlattenCalls(ImageCalls):
    """Flattening, and taking away what a flatten that was cut short has left."""

    def flatten(self, image_id: str, progress: Callable[[float], bool]) -> None:
        with self._doing("images.flatten", image_id), self._open(image_id) as image:
            is_deep = image.features() & rbd.RBD_FEATURE_DEEP_FLATTEN
            if not is_deep and has_parent(image):
                pin(image)
            try:
                _flatten(image, progress)
            except rbd.Error as error:
                if error.errno != errno.ECANCELED:
                    raise
                unpin(image)
                raise FlattenStopped(image_id) from error
            unpin(image)

    def unpin(self, image_id: str) -> None:
        with self._doing("images.unpin", image_id), self._open(image_id) as image:
            unpin(image)


def _flatten(image: rbd.Image, progress: Callable[[float], bool]) -> None:
    def told(done: int, whole: int) -> int:
        return 0 if progress(done / whole if whole else 1.0) else -errno.ECANCELED

    try:
        image.flatten(on_progress=told)
    except rbd.Error as error:
        if error.errno != errno.EINVAL or has_parent(image):  # EINVAL: it has no parent any more
            raise
