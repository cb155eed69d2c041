"""The part of `Images` that removes images, at once or through the trash."""

import errno
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC

import rbd

from csi_driver.ceph.api import ImageKept, ImageMissing, ObjectExists, ObjectMissing, TrashEntry, Write
from csi_driver.ceph.class_writes import ClassWrite
from csi_driver.ceph.encoding import packed
from csi_driver.ceph.image_calls import ImageCalls
from csi_driver.ceph.image_trashing import find_in_directory, find_movable, move, trash_add

_PAGE = 1000
_REMOVING = 3  # cls::rbd::TRASH_IMAGE_SOURCE_REMOVING


class TrashCalls(ImageCalls):
    """librbd's ENOENT says "gone" here, and on a full pool not even that unless the object `rbd_trash` exists."""

    def remove(self, name: str) -> None:
        self._ensure_trash()
        with self._doing("images.remove", name):
            if not self._finish_half_made(name):
                self._despite_dead_watchers(
                    lambda: self._rbd.remove(self._ioctx, name), lambda: self.find_id(name) or self._find_removing(name)
                )

    def _finish_half_made(self, name: str) -> bool:
        """Takes away an image that has names and no header, and so nobody who opened it; librbd would leave its object map.

        The names last, as long as there is something that they lead to.
        """
        image_id = self.find_id(name) or find_in_directory(self._objects, name)
        if image_id is None or self.find_size(image_id) is not None:
            return False
        with suppress(ObjectMissing):
            self._objects.apply(f"rbd_object_map.{image_id}", Write(remove_object=True))
        names = (
            ClassWrite("rbd_directory", (("rbd", "dir_remove_image", packed(name) + packed(image_id)),)),
            ClassWrite(f"rbd_id.{name}", is_removal=True),
        )
        for failure in self._objects.write_classes(names):
            if failure and not isinstance(failure, ObjectMissing):  # one of them alone may have been written
                raise failure
        return True

    def _despite_dead_watchers(self, remove: Callable[[], None], find_id: Callable[[], str | None]) -> None:
        """Once more, when an image is said to be watched: perhaps by a client that is gone."""
        try:
            remove()
        except rbd.Error as error:
            image_id = find_id() if error.errno == errno.EBUSY else None
            if image_id is None:
                raise
            self._objects.push_out(f"rbd_header.{image_id}")
            remove()

    def _find_removing(self, name: str) -> str | None:
        """An image whose removal was cut short, in the object `rbd_trash`: keys `id_<id>`, values a version and a length (6
        bytes), the source (u8, 3: removing), the name with its length (u32), … (Ceph: cls::rbd::TrashImageSpec). librbd lists
        it nowhere, and goes on with it when the name is removed again.
        """
        begins = (struct.pack("<B", _REMOVING) + packed(name)).decode(errors="replace")
        after = ""
        while page := self._objects.list_page("rbd_trash", prefix="id_", after=after, limit=_PAGE):
            for key, text in page:
                if text[6:].startswith(begins):
                    return key.removeprefix("id_")
            after = page[-1][0]
        return None

    def move_to_trash(self, name: str, *, keep_s: int = 0) -> None:
        self._ensure_trash()
        with self._doing("images.move_to_trash", name):
            if image_id := find_movable(self._objects, name):
                try:
                    move(self._objects, name, image_id, keep_s)
                except ObjectExists:
                    pass  # begun once, and cut short
                else:
                    return
            self._rbd.trash_move(self._ioctx, name, keep_s)

    def restore_from_trash(self, image_id: str, name: str) -> None:
        with self._doing("images.restore_from_trash", image_id):
            self._rbd.trash_restore(self._ioctx, image_id, name)

    def purge(self, image_id: str) -> None:
        self._ensure_trash()
        with self._doing("images.purge", image_id):
            try:
                self._despite_dead_watchers(lambda: self._rbd.trash_remove(self._ioctx, image_id), lambda: image_id)
            except rbd.Error as error:
                # The answer of a capability that is missing, too.
                if error.errno == errno.EPERM and self._is_kept(image_id):
                    raise ImageKept(image_id) from error
                raise

    def remove_nameless(self, image_id: str, name: str) -> None:
        with self._doing("images.remove_nameless", image_id):
            self._objects.ensure("rbd_trash")
            self._objects.execute("rbd_trash", "rbd", "trash_add", trash_add(image_id, name))
        with suppress(ImageMissing):  # librbd drops the entry of what it cannot open, and no more
            self.purge(image_id)
        for left in (f"rbd_header.{image_id}", f"rbd_object_map.{image_id}"):
            with suppress(ObjectMissing):
                self._objects.apply(left, Write(remove_object=True))

    def _is_kept(self, image_id: str) -> bool:
        found = self.find_trashed(image_id)
        return found is not None and found.kept_until > time.time()

    def find_trashed(self, image_id: str) -> TrashEntry | None:
        with self._doing("images.find_trashed", image_id):
            try:
                return _trash_entry(self._rbd.trash_get(self._ioctx, image_id))
            except rbd.Error as error:
                if error.errno == errno.ENOENT:
                    return None
                raise

    def list_trash(self) -> list[TrashEntry]:
        with self._doing("images.list_trash", "rbd_trash"):
            return [_trash_entry(one) for one in self._rbd.trash_list(self._ioctx)]

    def _ensure_trash(self) -> None:
        """Without this object a full pool answers "image not found" to every removal, the image being intact."""
        self._objects.ensure("rbd_trash")


def _trash_entry(item: "rbd.TrashItem") -> TrashEntry:
    """The bindings cut the time down to whole seconds, and the trash compares the rest too."""
    return TrashEntry(item["id"], item["name"], item["deferment_end_time"].replace(tzinfo=UTC).timestamp() + 1)
