"""The key of one volume name, which may stand in another pool than the image: with a class of topology-bound pools the
class's `pool` holds the names, and the name's key says which pool was chosen. That layout is ceph-csi's.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence

from csi_driver.errors import Busy
from csi_driver.journal.entries import VolumeEntry
from csi_driver.journal.journal import Journal
from csi_driver.journal.reading import E, Reserved
from csi_driver.operations.site import Site


def give_back(journal: Journal[E], request_name: str, reserved: Reserved) -> None:
    """The name of what nobody began. Raises Busy when another process began it just now, which finds its name back then."""
    journal.drop_name(request_name, reserved)
    if journal.load(reserved.uuid) is not None:
        journal.claim(request_name, reserved)
        raise Busy(f"{journal.noun} name {request_name!r} is being made by another process; repeat the call")


class VolumeName:
    """A name whose key is in the pool of `names`, for an image in the pool of `site`."""

    def __init__(self, names: Site, site: Site, request_name: str) -> None:
        self._journal = names.journal
        self._entries = site.journal
        self._name = request_name
        self.journal_pool = names.pool.name
        is_elsewhere = names.pool.pool_id != site.pool.pool_id
        self.journal_pool_id = names.pool.pool_id if is_elsewhere else None
        self._image_pool_id = site.pool.pool_id if is_elsewhere else None

    def claim(self, uuid: str) -> bool:
        """Give the name to this uuid unless it is taken; whether it was given."""
        wanted = Reserved(uuid, self._image_pool_id)
        return self._journal.claim(self._name, wanted) == wanted

    @property
    def is_beside_image(self) -> bool:
        return self._image_pool_id is None

    def claim_noted(self, entry: VolumeEntry, stale: Sequence[str]) -> bool:
        """As `claim`, with the entry beside the name, where that is in the image's pool. stale: notes that go with it."""
        return self._journal.claim_noted(entry, stale) == Reserved(entry.uuid)

    def is_taken(self) -> bool:
        return self._journal.find(self._name) is not None

    def is_of(self, uuid: str) -> bool:
        return self._journal.find(self._name) == Reserved(uuid, self._image_pool_id)

    def give_back(self, uuid: str) -> None:
        """Whose entry could not be begun. Raises Busy when another process began it just now, which needs its name then."""
        reserved = Reserved(uuid, self._image_pool_id)
        self._journal.drop_name(self._name, reserved)
        if self._entries.load(uuid) is not None:
            self._journal.claim(self._name, reserved)
            raise Busy(f"volume name {self._name!r} is being made by another process; repeat the call")


class RecentNames:
    """Names that this process was asked for lately: of these alone it reads first whether they are taken.

    With the uuid that each had last, so that its entry can be read beside its key. Both are believed of nobody.
    """

    def __init__(self, most: int = 4096) -> None:
        self._guard = threading.Lock()
        self._uuids: OrderedDict[str, str] = OrderedDict()
        self._most = most

    def add(self, key: str) -> str | None:
        """None where it was not there; empty where its uuid is not known."""
        with self._guard:
            known = self._uuids.get(key)
            self._uuids[key] = known or ""
            self._uuids.move_to_end(key)
            if len(self._uuids) > self._most:
                self._uuids.popitem(last=False)
            return known

    def learn(self, key: str, uuid: str) -> None:
        with self._guard:
            if key in self._uuids:
                self._uuids[key] = uuid


class StaleNotes:
    """Entries of this process that have their objects by now: the next claim in their pool takes their notes away.

    What is forgotten here, the sweep of the pool finds.
    """

    def __init__(self, most: int = 256) -> None:
        self._guard = threading.Lock()
        self._uuids: dict[str, deque[str]] = {}
        self._most = most

    def add(self, pool: str, uuid: str) -> None:
        with self._guard:
            self._uuids.setdefault(pool, deque(maxlen=self._most)).append(uuid)

    def take(self, pool: str) -> list[str]:
        with self._guard:
            return list(self._uuids.pop(pool, ()))
