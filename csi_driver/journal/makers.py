"""Who makes what: each process's record in Ceph, and the fence that lets one take over another's work.

A process has an identity that survives its restart and that only one living process has (node, host name and endpoint;
the endpoint's lock sees to the last). Under it stands the address of its connection. A process that finds another
address there is that one's successor: it puts the address on the blocklist, so that nothing of the predecessor is still on
its way, and may then take over at once what that one was making. The same happens when a connection was given up after a
timeout: its late writes are fenced by the next one.

Object `csi.makers.<instance>`, key `<identity>/<user>`, value JSON: {"address": …, "former": […]}.
"""

import json
import threading
import time
from dataclasses import dataclass

import structlog

from csi_driver.ceph.api import CompareFailed, Create, Pool, Write
from csi_driver.errors import AccessDenied, Busy, ClusterUnavailable, NoSpace
from csi_driver.journal import layout

log = structlog.get_logger(__name__)

GRACE_S = 30.0
"""How long another process's `making` is respected. Politeness only: the fence is the guarantee."""

CLAIM_GRACE_S = 3.0

_FORMER_KEPT = 16


@dataclass(frozen=True)
class Record:
    """A process's current address, and those it had before (newest last)."""

    address: str
    former: tuple[str, ...] = ()

    def succeeded_by(self, address: str) -> "Record":
        return Record(address, (*(one for one in self.former if one != address), self.address)[-_FORMER_KEPT:])

    @classmethod
    def parse(cls, text: str) -> "Record":
        value = json.loads(text)
        return cls(value["address"], tuple(value["former"]))

    def __str__(self) -> str:
        return json.dumps({"address": self.address, "former": self.former})


class Makers:
    """The records of one identity in all pools that it uses."""

    def __init__(self, identity: str, instance: str) -> None:
        self._identity = identity
        self._object = layout.makers(instance)
        self._guard = threading.Lock()
        self._entered: dict[tuple[str, int, str, str], Record] = {}
        self._entering: dict[tuple[str, int, str, str], threading.Lock] = {}

    def enter(self, pool: Pool) -> tuple[Record, bool]:
        """Own record in this pool, and whether it was written just now; fences the predecessor then."""
        place = (pool.cluster.entry.cluster_id, pool.pool_id, pool.namespace, pool.cluster.address)
        with self._guard:
            if record := self._entered.get(place):
                return record, False
            entering = self._entering.setdefault(place, threading.Lock())
        with entering:
            with self._guard:
                if record := self._entered.get(place):
                    return record, False
            try:
                record = self._write_record(pool)
            except NoSpace as full:  # what the call is about was not even looked at, so that this is no last word on it
                raise ClusterUnavailable(f"entering pool {pool.name!r}: {full}; repeat the call") from full
            with self._guard:
                self._entered[place] = record
        return record, True

    def _write_record(self, pool: Pool) -> Record:
        key = f"{self._identity}/{pool.cluster.user}"
        while True:
            present = pool.objects.read_key(self._object, key) or ""
            record = Record(pool.cluster.address)
            if present:
                before = Record.parse(present)
                record = before if before.address == record.address else before.succeeded_by(record.address)
                if before.address != record.address:
                    self._fence_predecessor(pool, before.address)
            try:
                pool.objects.apply(
                    self._object, Write(create=Create.ENSURE, compare={key: present}, put={key: str(record)})
                )
            except CompareFailed:
                continue  # another connection of this identity was faster: it is the predecessor now
            return record

    def _fence_predecessor(self, pool: Pool, address: str) -> None:
        try:
            pool.cluster.blocklist(address)
        except AccessDenied as error:
            log.warning(
                "the predecessor cannot be fenced: its unfinished work waits for the grace time", reason=str(error)
            )

    def fence(self, pool: Pool, maker: str, *, since: float, doing: str, grace_s: float = GRACE_S) -> None:
        """Cut off the maker of something half made, so that it can be taken over. Raises Busy within its grace time."""
        record, _ = self.enter(pool)
        if maker == pool.cluster.address:
            return
        age_s = time.time() - since
        if maker not in record.former and age_s < grace_s:
            raise Busy(
                f"{doing} by another process at {maker} for {age_s:.1f} s; "
                f"repeat the call, it is taken over after {grace_s:.0f} s"
            )
        pool.cluster.blocklist(maker)

    def may_succeed(self, pool: Pool, maker: str, *, made_at: float) -> bool:
        """Whether this process may go on with a purge that `maker` claimed: its own, its predecessor's, or an idle one.

        Who purges has the image open, which the caller looks at; the seconds cover the moment before it is opened.
        """
        record, _ = self.enter(pool)
        return maker in (record.address, *record.former) or time.time() - made_at >= CLAIM_GRACE_S

    def addresses(self, pool: Pool) -> frozenset[str]:
        """Addresses of all processes of this driver that work or worked in this pool."""
        records = [Record.parse(text) for text in (pool.objects.read(self._object) or {}).values()]
        return frozenset(one for record in records for one in (record.address, *record.former))
