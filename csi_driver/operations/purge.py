"""Behind the deletes: images in the trash are purged, and unfinished deletes finished, from what stands in the journal.

Two processes may look through one pool: the journal's compare gives each image to one of them.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from zlib import crc32

import structlog

from csi_driver.ceph.api import ImageBusy, ImageHasSnapshots, ImageKept
from csi_driver.errors import DriverError, KmsUnavailable
from csi_driver.journal.journal import Journal
from csi_driver.journal.layout import State
from csi_driver.journal.reading import E, Lost, Reserved
from csi_driver.locks import KeyedLocks
from csi_driver.operations.clearing import clear_group, clear_snapshot, clear_volume
from csi_driver.operations.pool_tasks import Pace, PoolTasks, Swept
from csi_driver.operations.site import PoolKey, Site, Sites

log = structlog.get_logger(__name__)

_PACE = Pace(retry_s=10.0, first_retry_s=0.1, attempts=360)
"""A watched image, a cluster that does not answer. After an hour without progress: until the next delete or start."""


_KEYS_AGAIN_S = 60.0
"""For as long as it takes: nobody else comes back to an entry whose image is gone, and whose key is kept in a server."""


Quiet = Callable[[str, float, float], bool]
"""Waits until a cluster has had no calls for so many seconds, and for how many seconds at most; whether it was so."""

_QUIET_S = 0.1
"""Within which the next call comes of a client that makes one after another."""
_STEPPING_ASIDE_S = 20.0
"""In all, of one look through a pool: space has to be given back however long the calls go on."""


class Purger:
    """Clears away what deletes have left, when no calls go on: half of a cluster's work for a delete is its purge.

    Where calls never end, each look through a pool waits for that as long as it may, and goes on beside them to its end.
    """

    def __init__(self, sites: Sites, locks: KeyedLocks, await_quiet: Quiet = lambda *_: True) -> None:
        self._sites = sites
        self._locks = locks
        self._await_quiet = await_quiet
        self._tasks = PoolTasks("purge", self._sweep, _PACE)
        self.look_at = self._tasks.look_at
        self.stop = self._tasks.stop
        self.backlog = self._tasks.backlog
        self._guard = threading.Lock()
        self._to_forget: dict[PoolKey, list[str]] = {}

    def forget_soon(self, key: PoolKey, uuid: str) -> None:
        """Remove the entry of a deleted snapshot of which nothing else is left. A process that dies before finds it by D."""
        with self._guard:
            self._to_forget.setdefault(key, []).append(uuid)
        self.look_at(key)

    def _forget(self, site: Site, key: PoolKey) -> Swept:
        with self._guard:
            uuids = self._to_forget.pop(key, [])
        for uuid in uuids:
            with suppress(Lost):
                site.snapshots.forget(uuid, State.DELETING)
        return Swept(cleared=len(uuids))

    def _sweep(self, key: PoolKey) -> Swept:
        patience = _Patience(lambda seconds: self._await_quiet(key.cluster_id, _QUIET_S, seconds))
        patience.step_aside()
        swept, failures = Swept(), list[Exception]()
        with self._sites.open(key, as_maker=True) as site:
            swept += self._forget(site, key)
            swept += _drop_stale_notes(site.journal)
            # Snapshots first: with the last of them a deleted volume can go.
            for uuids, clear in (
                (_all_deleted(site.groups, site.cluster.address), clear_group),
                (_all_deleted(site.snapshots, site.cluster.address), clear_snapshot),
                (_all_deleted(site.journal, site.cluster.address), clear_volume),
            ):
                for uuid in uuids:
                    patience.step_aside()
                    if self._tasks.stopping.is_set():
                        return swept
                    try:
                        swept += self._clear(site, uuid, clear)
                    except Exception as failure:  # noqa: BLE001 - unforeseen, and no reason to leave all that comes after it
                        failure.add_note(f"while {uuid} was cleared away")
                        failures.append(failure)
                    if site.cluster.is_given_up:
                        return swept + Swept(waiting=1)  # gone on with by the next look, on a new connection
        if failures:
            raise ExceptionGroup("what should be cleared away was not", failures)
        return swept

    def _clear(self, site: Site, uuid: str, clear: "_Clear") -> Swept:
        try:
            # Apart from the volume's own lock: a repeated DeleteVolume need not wait for its purge.
            with self._locks.hold(f"purge of {site.handle(uuid)}"):
                return clear(site, uuid, self._locks)
        except KmsUnavailable as error:
            log.warning("purge waits for a KMS", uuid=uuid, reason=str(error))
            return Swept(waiting=1, due_at=time.time() + _KEYS_AGAIN_S)
        except (ImageBusy, ImageHasSnapshots, ImageKept, DriverError) as error:
            log.info("purge waits for an image", uuid=uuid, reason=str(error) or type(error).__name__)
            return Swept(waiting=1)


class _Patience:
    """Of one look through a pool."""

    def __init__(self, await_quiet: Callable[[float], bool]) -> None:
        self._await_quiet = await_quiet
        self._left_s = _STEPPING_ASIDE_S

    def step_aside(self) -> None:
        if self._left_s > 0:
            began = time.monotonic()
            self._await_quiet(self._left_s)
            self._left_s -= time.monotonic() - began


_Clear = Callable[[Site, str, KeyedLocks], Swept]


def _all_deleted(journal: Journal[E], address: str) -> Iterator[str]:
    """Page by page, each in an order of this process's own: two that kept to one order would meet at every entry."""
    after = ""
    while page := journal.list_deleted(after):
        yield from sorted(page, key=lambda uuid: crc32(f"{address} {uuid}".encode()))
        after = page[-1]


def _drop_stale_notes(journal: Journal[E]) -> Swept:
    """What creates noted beside their names, and have written as entries since."""
    swept, after = Swept(), ""
    while page := journal.list_noted(after):
        after = page[-1]
        if stale := [uuid for uuid in page if _is_stale(journal, uuid)]:
            journal.drop_notes(stale)
            swept += Swept(cleared=len(stale))
    return swept


def _is_stale(journal: Journal[E], uuid: str) -> bool:
    """Name and note are put in one write: a note that was seen, and whose name is not its own after that, is a leftover."""
    if journal.load(uuid) is not None:
        return True
    noted = journal.load_noted(uuid)
    return noted is not None and journal.find(noted.request_name) != Reserved(uuid)
