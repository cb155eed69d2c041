"""Objects with keys, and leases."""

from collections.abc import Callable, Iterator

from csi_driver.ceph.api import CompareFailed, Create, ObjectExists, ObjectMissing, Write
from tests.memory_ceph.seam import Link, seam
from tests.memory_ceph.state import Images, Place

_MOST = 1024
"""An OSD returns no more entries at once."""


class MemoryObjects:
    """`Objects` and `Leases` of one place."""

    def __init__(self, link: Link, place: Place, address: str, now: Callable[[], float], images: Images) -> None:
        self.link = link
        self._place = place
        self._images = images
        self._address = address
        self._now = now

    @seam("objects.apply")
    def apply(self, name: str, write: Write) -> None:
        present = self._place.objects.get(name)
        if write.create is Create.EXCLUSIVE and present is not None:
            raise ObjectExists(name)
        makes = write.create is not Create.NO or bool(write.put and not write.compare)
        if present is None and not makes and (write.compare or write.drop or write.remove_object):
            raise ObjectMissing(name)
        keys = present or {}
        if any(keys.get(key, "") != expected for key, expected in write.compare.items()):
            raise CompareFailed(name)
        if write.remove_object:
            self._place.objects.pop(name, None)
        elif present is not None or makes:
            merged = {**keys, **write.put}
            self._place.objects[name] = {key: text for key, text in merged.items() if key not in write.drop}

    @seam("objects.read")
    def read(self, name: str) -> dict[str, str] | None:
        keys = self._place.objects.get(name)
        return None if keys is None else dict(keys)

    @seam("objects.read_key")
    def read_key(self, name: str, key: str) -> str | None:
        return self._place.objects.get(name, {}).get(key)

    def read_both(self, name: str, key: str, other: str) -> tuple[str | None, dict[str, str] | None]:
        keys = self.read(other)
        return self.read_key(name, key), keys

    def names(self) -> Iterator[str]:
        self.link.begin("objects.names")
        headers = [f"rbd_header.{one.image_id}" for one in self._images.by_id.values() if one.place is self._place]
        yield from [*self._place.objects, *headers]

    @seam("objects.list_page")
    def list_page(self, name: str, *, prefix: str, after: str, limit: int) -> list[tuple[str, str]]:
        keys = self._place.objects.get(name, {})
        found = sorted(
            (item for item in keys.items() if item[0].startswith(prefix) and item[0].encode() > after.encode()),
            key=lambda item: item[0].encode(),
        )
        return found[: min(limit, _MOST)]

    @seam("objects.take_lease")
    def take_lease(self, name: str, seconds: int) -> bool:
        holder, ends = self._place.leases.get(name, ("", 0.0))
        if holder not in ("", self._address) and ends > self._now():
            return False
        self._place.objects.setdefault(name, {})
        self._place.leases[name] = (self._address, self._now() + seconds)
        return True

    @seam("objects.is_leased")
    def is_leased(self, name: str) -> bool:
        return self._place.leases.get(name, ("", 0.0))[1] > self._now()

    @seam("objects.end_lease")
    def end_lease(self, name: str) -> None:
        if self._place.leases.get(name, ("", 0.0))[0] == self._address:
            del self._place.leases[name]
