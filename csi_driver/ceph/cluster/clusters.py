"""`Clusters` over librados: which connection a call gets, and when one is given up or closed."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from csi_driver.addresses import ClusterEntry, Credentials
from csi_driver.ceph.cluster.connection import Connection
from csi_driver.ceph.cluster.handle import Timeouts
from csi_driver.ceph.cluster.making_turns import MakingTurns
from csi_driver.ceph.cluster.reach import try_ports
from csi_driver.errors import InvalidRequest

_IDLE_SECONDS = 600.0


@dataclass(frozen=True)
class _ConnectionKey:
    entry: ClusterEntry
    credentials: Credentials
    purpose: str


class RadosClusters:
    """`Clusters` over librados."""

    def __init__(self, entries: Callable[[], Mapping[str, ClusterEntry]], timeouts: Timeouts) -> None:
        self._entries = entries
        self._timeouts = timeouts
        self._turns = MakingTurns(timeouts.operation_s)
        self._guard = threading.Lock()
        self._slots: dict[_ConnectionKey, _Slot] = {}

    def entry(self, cluster_id: str) -> ClusterEntry:
        entries = self._entries()
        if cluster_id not in entries:
            known = ", ".join(sorted(entries)) or "none"
            raise InvalidRequest(f"clusterID {cluster_id!r} is not in the clusters file; it has: {known}")
        return entries[cluster_id]

    @contextmanager
    def connect(self, cluster_id: str, credentials: Credentials | None, purpose: str = "") -> Iterator["Connection"]:
        entry = self.entry(cluster_id)
        who = credentials or entry.credentials
        if who is None:
            raise InvalidRequest(
                f"secrets have no userID and userKey, and the clusters file names no credentials for {cluster_id!r}"
            )
        slot = self._slot(_ConnectionKey(entry, who, purpose))
        with slot.use() as connection:
            yield connection

    def check(self, cluster_id: str) -> None:
        """Whether a cluster can be reached: with its own credentials a monitor is asked, else only its port is tried.

        Raises DriverError.
        """
        entry = self.entry(cluster_id)
        if entry.credentials:
            with self.connect(cluster_id, None) as connection:
                connection.ask_monitor()
        else:
            try_ports(entry, self._timeouts.connect_s)

    def _slot(self, key: _ConnectionKey) -> "_Slot":
        now = time.monotonic()
        with self._guard:
            idle = [k for k, s in self._slots.items() if k != key and s.users == 0 and now - s.used_at > _IDLE_SECONDS]
            closing = [self._slots.pop(k) for k in idle]
            slot = self._slots.setdefault(key, _Slot(key, self._timeouts, self._turns))
            slot.used_at = now  # so that no other thread closes it before it is used
        for old in closing:
            old.close()
        return slot

    def close(self) -> None:
        """Close all connections: at the end of the process."""
        with self._guard:
            slots, self._slots = list(self._slots.values()), {}
        for slot in slots:
            slot.close()


class _Slot:
    """The current connection of one key. Connecting excludes only callers of the same key."""

    def __init__(self, key: _ConnectionKey, timeouts: Timeouts, turns: MakingTurns) -> None:
        self._key = key
        self._timeouts = timeouts
        self._turns = turns
        self._guard = threading.Lock()
        self._connection: Connection | None = None
        self.users = 0
        self.used_at = time.monotonic()

    @contextmanager
    def use(self) -> Iterator["Connection"]:
        with self._guard:
            if self._connection is None or self._connection.is_given_up:
                self._connection = Connection(self._key.entry, self._key.credentials, self._timeouts, self._turns)
            connection = self._connection
            self.users += 1
            connection.users += 1
        try:
            yield connection
        finally:
            with self._guard:
                self.users -= 1
                connection.users -= 1
                self.used_at = time.monotonic()
                unused = connection.is_given_up and not connection.users
            if unused:
                connection.close()

    def close(self) -> None:
        with self._guard:
            if self._connection:
                self._connection.close()
