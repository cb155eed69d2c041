"""Who makes what: each process's record in Ceph, and the fence that lets one take over another's work.

A process has an identity that survives its restart and that only one living process has (node, host name and endpoint;
the endpoint's lock sees to the last). Under it stands the address of its connection. A process that finds another
address there is that one's successor: it puts the address on the blocklist, so that nothing of the predecessor is still on
its way, and may then take over at once what that one was making. The same happens when a connection was given up after a
timeout: its late writes are fenced by the next one. Images are made from a second address (docs/decisions/0034), which
stands in the record alone: entries have the first, and whoever fences that fences both.

Object `csi.makers.<instance>`, key `<identity>/<user>`, value JSON: {"address": …, "former": […], "making": {first: second}}.
"""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

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
    """A process's current address, and those it had before (newest last); and where images were made from, with each."""

    address: str
    former: tuple[str, ...] = ()
    making: Mapping[str, str] = field(default_factory=dict)

    def succeeded_by(self, address: str, making_address: str = "") -> "Record":
        former = (*(one for one in self.former if one != address), self.address)[-_FORMER_KEPT:]
        kept = {first: second for first, second in self.making.items() if first in former}
        return Record(address, former, kept | {address: making_address} if making_address else kept)

    def all_of(self, address: str) -> tuple[str, ...]:
        """Itself, and the one that images were made from."""
        return (address, self.making[address]) if address in self.making else (address,)

    @property
    def addresses(self) -> frozenset[str]:
        return frozenset((self.address, *self.former, *self.making.values()))

    @classmethod
    def parse(cls, text: str) -> "Record":
        value = json.loads(text)
        return cls(value["address"], tuple(value["former"]), value.get("making", {}))

    def __str__(self) -> str:
        return json.dumps({"address": self.address, "former": self.former, "making": self.making})


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

    def have_worked_in(self, pool: Pool) -> bool:
        """Whether a process of this driver ever entered the pool."""
        return bool(pool.objects.read(self._object))

    def _write_record(self, pool: Pool) -> Record:
        key = f"{self._identity}/{pool.cluster.user}"
        address, making_address = pool.cluster.address, pool.cluster.making_address
        while True:
            present = pool.objects.read_key(self._object, key) or ""
            record = Record(address, making={address: making_address} if making_address else {})
            if present:
                before = Record.parse(present)
                if before.address == address:
                    return before
                record = before.succeeded_by(address, making_address)
                self._fence_predecessor(pool, before)
            try:
                pool.objects.apply(
                    self._object, Write(create=Create.ENSURE, compare={key: present}, put={key: str(record)})
                )
            except CompareFailed:
                continue  # another connection of this identity was faster: it is the predecessor now
            return record

    def _fence_predecessor(self, pool: Pool, before: Record) -> None:
        try:
            for address in before.all_of(before.address):
                pool.cluster.blocklist(address)
        except AccessDenied as error:
            log.warning(
                "the predecessor cannot be fenced: its unfinished work waits for the grace time", reason=str(error)
            )

    def fence(self, pool: Pool, maker: str, *, since: float, doing: str, grace_s: float = GRACE_S) -> None:
        """Cut off the maker of something half made, so that it can be taken over. Raises Busy within its grace time."""
        self.respect(pool, maker, since=since, doing=doing, grace_s=grace_s)
        if maker != pool.cluster.address:
            record, _ = self.enter(pool)
            for address in self._all_of(pool, maker, record):
                pool.cluster.blocklist(address)

    def respect(self, pool: Pool, maker: str, *, since: float, doing: str, grace_s: float = GRACE_S) -> None:
        """Raises Busy within the grace time of a maker that is neither this process nor its predecessor."""
        record, _ = self.enter(pool)
        age_s = time.time() - since
        if maker not in (pool.cluster.address, *record.former) and age_s < grace_s:
            raise Busy(
                f"{doing} by another process at {maker} for {age_s:.1f} s; "
                f"repeat the call, it is taken over after {grace_s:.0f} s"
            )

    def _all_of(self, pool: Pool, maker: str, own: Record) -> tuple[str, ...]:
        records = [own] if maker in own.addresses else self._records(pool)
        return next((record.all_of(maker) for record in records if maker in record.addresses), (maker,))

    def addresses(self, pool: Pool) -> frozenset[str]:
        """Addresses of all processes of this driver that work or worked in this pool."""
        return frozenset().union(*(record.addresses for record in self._records(pool)))

    def _records(self, pool: Pool) -> list[Record]:
        return [Record.parse(text) for text in (pool.objects.read(self._object) or {}).values()]
