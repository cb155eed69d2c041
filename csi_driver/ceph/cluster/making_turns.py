"""How many images are made at once in a pool, since a create waits for an OSD that stands still as long as that takes.

docs/decisions/0034 says why it does. Its call was answered in time, and what it took up is free when the OSD is back; of the
threads that serve a cluster some are left for its other pools.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from csi_driver.errors import Busy

MOST_IN_POOL = 48
"""Less than a cluster's gate lets in at once (rpc/gate.py)."""


class MakingTurns:
    """Of all connections to the clusters.

    patience_s: what a create takes at most where nothing is wrong. clock: seconds that never go back.
    """

    def __init__(
        self, patience_s: float, most: int = MOST_IN_POOL, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience_s = patience_s
        self._most = most
        self._clock = clock
        self._guard = threading.Condition()
        self._begun: dict[tuple[str, int], list[float]] = {}
        """When each create in a pool that is under way began, the oldest first."""

    @contextmanager
    def hold(self, cluster_id: str, pool_id: int, pool: str) -> Iterator[None]:
        """While an image is made. Raises Busy, at once where the oldest create has waited too long already."""
        with self._guard:
            begun = self._begun.setdefault((cluster_id, pool_id), [])
            is_stuck = bool(begun) and self._clock() - begun[0] > self._patience_s
            if not self._guard.wait_for(lambda: len(begun) < self._most, 0 if is_stuck else self._patience_s):
                age_s = self._clock() - begun[0]
                raise Busy(
                    f"{len(begun)} images are being made in pool {pool!r}, the first for {age_s:.0f} s: "
                    "its OSDs do not answer (`ceph status`); repeat the call"
                )
            since = self._clock()
            begun.append(since)
        try:
            yield
        finally:
            with self._guard:
                begun.remove(since)
                self._guard.notify_all()
