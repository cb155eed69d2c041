"""The key of one volume name, which may stand in another pool than the image: with a class of topology-bound pools the
class's `pool` holds the names, and the name's key says which pool was chosen. That layout is ceph-csi's.
"""

from csi_driver.errors import Busy
from csi_driver.journal.journal import Reserved
from csi_driver.operations.site import Site


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

    def is_of(self, uuid: str) -> bool:
        return self._journal.find(self._name) == Reserved(uuid, self._image_pool_id)

    def give_back(self, uuid: str) -> None:
        """Whose entry could not be begun. Raises Busy when another process began it just now, which needs its name then."""
        reserved = Reserved(uuid, self._image_pool_id)
        self._journal.drop_name(self._name, reserved)
        if self._entries.load(uuid) is not None:
            self._journal.claim(self._name, reserved)
            raise Busy(f"volume name {self._name!r} is being made by another process; repeat the call")
