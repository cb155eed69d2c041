"""Which process flattens in a pool: the one that has the lease. Renewed behind the work; a lost one ends it at its next step.

The lease spares work; it is no guarantee, since a paused process does not see its end. Whoever takes it over fences the
connection of the one before (journal/flatten_queue.py).
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from csi_driver.errors import DriverError
from csi_driver.operations.site import Site

log = structlog.get_logger(__name__)

LEASE_S = 6
"""How long after a crash another process may take over."""


class Lease:
    """Held while its context lasts, or until it is lost."""

    def __init__(self, site: Site) -> None:
        self._leases = site.pool.leases
        self._object = site.flatten_workers.object
        self._ended = threading.Event()
        self._renewed_at = time.monotonic()

    @property
    def is_held(self) -> bool:
        return not self._ended.is_set() and time.monotonic() - self._renewed_at < LEASE_S

    def take(self) -> bool:
        began = time.monotonic()
        is_taken = self._leases.take_lease(self._object, LEASE_S)
        if is_taken:
            self._renewed_at = began
        return is_taken

    def keep(self) -> None:
        """Renew until `end`, or until another process has it."""
        while not self._ended.wait(LEASE_S / 4):
            try:
                if self.take():
                    continue
            except DriverError as error:
                log.warning("the flatten lease was not renewed", reason=str(error))
                continue  # it may be renewed in time yet
            self._ended.set()

    def end(self) -> None:
        self._ended.set()
        self._leases.end_lease(self._object)


@contextmanager
def elected(site: Site) -> Iterator[Lease | None]:
    """The lease of this pool, or None while another process has it."""
    lease = Lease(site)
    if not lease.take():
        yield None
        return
    if not site.flatten_workers.enter():
        _give_back(lease)
        yield None
        return
    renewing = threading.Thread(target=lease.keep, name="flatten-lease", daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        try:
            if lease.is_held:
                site.flatten_workers.leave()
        except DriverError as error:
            log.warning("who flattens is not taken off its record", reason=str(error))
        _give_back(lease)
        renewing.join()


def _give_back(lease: Lease) -> None:
    try:
        lease.end()
    except DriverError as error:
        log.warning("the flatten lease ends by itself", reason=str(error))
