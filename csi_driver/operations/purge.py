"""Behind the deletes: images in the trash are purged, and unfinished deletes finished, from what stands in the journal.

Two processes may look through one pool: the journal's compare gives each image to one of them.
"""

from collections.abc import Callable, Iterator

import structlog

from csi_driver.ceph.api import ImageBusy, ImageHasSnapshots, ImageKept
from csi_driver.errors import DriverError
from csi_driver.journal.journal import E, Journal
from csi_driver.locks import KeyedLocks
from csi_driver.operations.clearing import clear_group, clear_snapshot, clear_volume
from csi_driver.operations.pool_tasks import Pace, PoolTasks, Swept
from csi_driver.operations.site import PoolKey, Site, Sites

log = structlog.get_logger(__name__)

_PACE = Pace(retry_s=10.0, first_retry_s=0.1, attempts=360)
"""A watched image, a cluster that does not answer. After an hour without progress: until the next delete or start."""


class Purger:
    """Clears away what deletes have left."""

    def __init__(self, sites: Sites, locks: KeyedLocks) -> None:
        self._sites = sites
        self._locks = locks
        self._tasks = PoolTasks("purge", self._sweep, _PACE)
        self.look_at = self._tasks.look_at
        self.stop = self._tasks.stop
        self.backlog = self._tasks.backlog

    def _sweep(self, key: PoolKey) -> Swept:
        swept = Swept()
        with self._sites.open(key, as_maker=True) as site:
            # Snapshots first: with the last of them a deleted volume can go.
            for uuids, clear in (
                (_all_deleted(site.groups), clear_group),
                (_all_deleted(site.snapshots), clear_snapshot),
                (_all_deleted(site.journal), clear_volume),
            ):
                for uuid in uuids:
                    if self._tasks.stopping.is_set():
                        return swept
                    swept += self._clear(site, uuid, clear)
        return swept

    def _clear(self, site: Site, uuid: str, clear: "_Clear") -> Swept:
        try:
            # Apart from the volume's own lock: a repeated DeleteVolume need not wait for its purge.
            with self._locks.hold(f"purge of {site.handle(uuid)}"):
                return clear(site, uuid, self._locks)
        except (ImageBusy, ImageHasSnapshots, ImageKept, DriverError) as error:
            log.info("purge waits for an image", uuid=uuid, reason=str(error) or type(error).__name__)
            return Swept(waiting=1)


_Clear = Callable[[Site, str, KeyedLocks], Swept]


def _all_deleted(journal: Journal[E]) -> Iterator[str]:
    after = ""
    while page := journal.list_deleted(after):
        yield from page
        after = page[-1]
