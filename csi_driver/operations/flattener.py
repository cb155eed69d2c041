"""Behind the copies: images of the flatten queue are flattened, by one process in each pool, a few at a time.

On a connection of its own, which no maker's fence cuts. What is interrupted stands in the queue, for the next start or
another process.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import structlog

from csi_driver.ceph.api import FlattenStopped, ImageBusy, ObjectMissing
from csi_driver.errors import DriverError
from csi_driver.journal.flatten_queue import QueueEntry
from csi_driver.operations.election import Lease, elected
from csi_driver.operations.flatten_course import DEFAULT_SETTINGS, LOOK_S, Course, FlattenSettings, Verdict
from csi_driver.operations.flattening import is_living, tell_put_off, work_at
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

    def __init__(
        self, sites: Sites, purge_soon: Callable[[PoolKey], None], settings: FlattenSettings = DEFAULT_SETTINGS
    ) -> None:
        self._sites = sites
        self._purge_soon = purge_soon
        self._settings = settings
        self._guard = threading.Lock()
        self._courses: dict[str, Course] = {}
        self._put_off: dict[str, _PutOff] = {}
        self._tasks = PoolTasks("flatten", self._sweep, _PACE)
        self.stop = self._tasks.stop
        self.backlog = self._tasks.backlog

    def look_at(self, key: PoolKey) -> None:
        """Have a pool's queue worked off soon, where this process flattens; returns at once."""
        if self._settings.at_once:
            self._tasks.look_at(key)

    def describe(self, site: Site, image_id: str) -> str:
        """How far it is, for the answer of a create that waits."""
        with self._guard:
            course = self._courses.get(image_id)
        if course is not None:
            return f"{course.part:.0%} are done"
        part = site.flatten_workers.progress(image_id)
        if part is not None:
            return f"{part:.0%} are done, by another process"
        if self._settings.at_once or site.flatten_workers.is_any_alive():
            return "it waits for its turn"
        return "no process that flattens is alive in this pool, and this one does not (--flatten-at-once 0): start one"

    def _sweep(self, key: PoolKey) -> Swept:
        with self._sites.open(key) as site:
            entries = site.flatten_queue.entries()
            if not any(self._is_due(site, entry) for entry in entries):
                return Swept(waiting=len(entries))
        with self._sites.open(key, purpose="flatten") as site, elected(site) as lease:
            if lease is None:
                return Swept(waiting=1)
            if self._settings.at_once == 1:
                return self._work_off(site, lease)
            with ThreadPoolExecutor(self._settings.at_once, thread_name_prefix="flatten-image") as threads:
                return self._work_off_several(site, lease, threads)

    def _work_off(self, site: Site, lease: Lease) -> Swept:
        """The queue is read again after each: what a create waits for goes before the rest."""
        swept = Swept()
        while lease.is_held and not self._tasks.stopping.is_set():
            entries = site.flatten_queue.entries()
            due = next((entry for entry in entries if self._is_due(site, entry)), None)
            if due is None:
                return replace(swept, waiting=len(entries))
            swept += self._ended(site, due, is_done=self._is_done(site, lease, due))
        return swept + Swept(waiting=1)

    def _work_off_several(self, site: Site, lease: Lease, threads: ThreadPoolExecutor) -> Swept:
        """As `_work_off`; what joins the queue meanwhile is seen after a moment."""
        swept, running = Swept(), dict[Future[bool], QueueEntry]()
        while lease.is_held and not self._tasks.stopping.is_set():
            entries = site.flatten_queue.entries()
            due = [one for one in entries if one not in running.values() and self._is_due(site, one)]
            for entry in due[: self._settings.at_once - len(running)]:
                running[threads.submit(self._is_done, site, lease, entry)] = entry
            if not running:
                return replace(swept, waiting=len(entries))
            for ended in wait(running, timeout=LOOK_S, return_when=FIRST_COMPLETED).done:
                swept += self._ended(site, running.pop(ended), is_done=ended.result())
        return swept + Swept(waiting=1)

    def _ended(self, site: Site, entry: QueueEntry, *, is_done: bool) -> Swept:
        if is_done:
            self._put_off.pop(entry.image_id, None)
            self._purge_soon(site.key)
            return Swept(cleared=1)
        self._put_off[entry.image_id] = _PutOff(time.monotonic() + _PUT_OFF_S, is_living(site, entry))
        return Swept()

    def _is_due(self, site: Site, entry: QueueEntry) -> bool:
        """What was put off is looked at before its time once its volume is deleted: the purge waits for it."""
        put_off = self._put_off.get(entry.image_id)
        if put_off is None or put_off.until <= time.monotonic():
            return True
        return put_off.was_living and not is_living(site, entry)

    def _is_done(self, site: Site, lease: Lease, entry: QueueEntry) -> bool:
        reason = "a client has it open"
        try:
            if work_at(site, entry, partial(self._flatten, site, lease, entry.image_id)):
                return True
        except (ImageBusy, DriverError) as error:
            reason = str(error) or type(error).__name__
            log.info("flatten waits for an image", image=entry.image_name, reason=reason)
        if lease.is_held and not self._tasks.stopping.is_set() and entry.image_id not in self._put_off:
            tell_put_off(site, entry, reason)
        return False

    def _flatten(
        self, site: Site, lease: Lease, image_id: str, size_bytes: int, look: Callable[[Site], Verdict]
    ) -> None:
        """Looked after on another connection: librbd opens nothing on this one while it waits. Raises FlattenStopped."""

        def look_on() -> Verdict:
            if not lease.is_held or self._tasks.stopping.is_set():
                return Verdict.STOP
            with self._sites.open(site.key) as beside:
                return look(beside)

        workers = site.flatten_workers
        course = Course(self._settings, size_bytes, look_on, partial(workers.tell, image_id))
        first = look_on()
        if first is Verdict.STOP:
            raise FlattenStopped(image_id)
        with self._guard:
            self._courses[image_id] = course
        try:
            with course.looked_after(first):
                site.pool.images.flatten(image_id, course.told)
        finally:
            with self._guard:
                del self._courses[image_id]
            if course.has_told:
                with suppress(DriverError, ObjectMissing):
                    workers.forget(image_id)
