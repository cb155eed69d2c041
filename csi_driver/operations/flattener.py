"""Behind the copies: images of the flatten queue are flattened, one at a time in each pool, by one process.

On a connection of its own, which no maker's fence cuts. What is interrupted stands in the queue, for the next start or
another process.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from csi_driver.ceph.api import ImageBusy
from csi_driver.errors import DriverError
from csi_driver.journal.flatten_queue import QueueEntry
from csi_driver.operations.election import Lease, elected
from csi_driver.operations.flattening import is_living, work_at
from csi_driver.operations.pool_tasks import Pace, PoolTasks, Swept
from csi_driver.operations.site import PoolKey, Site, Sites

log = structlog.get_logger(__name__)

_PACE = Pace(retry_s=1.0, first_retry_s=0.5)
"""While another process has the lease, or what is left is put off."""

_PUT_OFF_S = 30.0
"""How long an image that a client has open, or that could not be worked at, is left alone."""


@dataclass(frozen=True)
class _PutOff:
    """Until when, by the monotonic clock, and whether the image's volume lived then."""

    until: float
    was_living: bool


class Flattener:
    """Works the queues off. `purge_soon`: what waits for a flatten is looked at again."""

    def __init__(self, sites: Sites, purge_soon: Callable[[PoolKey], None]) -> None:
        self._sites = sites
        self._purge_soon = purge_soon
        self._guard = threading.Lock()
        self._progress: dict[str, float] = {}
        self._put_off: dict[str, _PutOff] = {}
        self._tasks = PoolTasks("flatten", self._sweep, _PACE)
        self.look_at = self._tasks.look_at
        self.stop = self._tasks.stop
        self.backlog = self._tasks.backlog

    def describe(self, image_id: str) -> str:
        """How far it is, for the answer of a create that waits."""
        with self._guard:
            done = self._progress.get(image_id)
        return "it waits for its turn, or another process flattens it" if done is None else f"{done:.0%} are done"

    def _sweep(self, key: PoolKey) -> Swept:
        with self._sites.open(key) as site:
            entries = site.flatten_queue.entries()
            if not any(self._is_due(site, entry) for entry in entries):
                return Swept(waiting=len(entries))
        with self._sites.open(key, purpose="flatten") as site, elected(site) as lease:
            return self._work_off(site, lease) if lease else Swept(waiting=1)

    def _work_off(self, site: Site, lease: Lease) -> Swept:
        """The queue is read again after each: what a create waits for goes before the rest."""
        swept = Swept()
        while lease.is_held and not self._tasks.stopping.is_set():
            entries = site.flatten_queue.entries()
            due = next((entry for entry in entries if self._is_due(site, entry)), None)
            if due is None:
                return replace(swept, waiting=len(entries))
            if self._is_done(site, due):
                swept += Swept(cleared=1)
                self._put_off.pop(due.image_id, None)
                self._purge_soon(site.key)
            else:
                self._put_off[due.image_id] = _PutOff(time.monotonic() + _PUT_OFF_S, is_living(site, due))
        return swept + Swept(waiting=1)

    def _is_due(self, site: Site, entry: QueueEntry) -> bool:
        """What was put off is looked at before its time once its volume is deleted: the purge waits for it."""
        put_off = self._put_off.get(entry.image_id)
        if put_off is None or put_off.until <= time.monotonic():
            return True
        return put_off.was_living and not is_living(site, entry)

    def _is_done(self, site: Site, entry: QueueEntry) -> bool:
        def told(part: float) -> None:
            with self._guard:
                self._progress[entry.image_id] = part

        try:
            return work_at(site, entry, told)
        except (ImageBusy, DriverError) as error:
            log.info("flatten waits for an image", image=entry.image_name, reason=str(error) or type(error).__name__)
            return False
        finally:
            with self._guard:
                self._progress.pop(entry.image_id, None)
