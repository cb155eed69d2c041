"""Work behind the answers: one thread per pool while there is work, on the credentials of the call that found it.

Started by what makes work, and by the first entry into a pool, which is how a restarted driver goes on where its
predecessor stopped (resumption.py).
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from csi_driver import tracing
from csi_driver.errors import DriverError, NotFound, Unauthenticated
from csi_driver.operations.site import PoolKey

_LONGEST_PAUSE_S = 3600.0
"""Before something is due: the clock may be set meanwhile."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Swept:
    """How many things were brought to their end, and how many wait for something.

    due_at: when the first of those that wait for their time alone is due, in seconds since the epoch; they are no trouble,
    and are never given up.
    """

    cleared: int = 0
    waiting: int = 0
    due_at: float = math.inf

    def __add__(self, other: "Swept") -> "Swept":
        return Swept(self.cleared + other.cleared, self.waiting + other.waiting, due_at=min(self.due_at, other.due_at))

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to come back for."""
        return not (self.cleared or self.waiting) and self.due_at == math.inf


@dataclass(frozen=True)
class Pace:
    """How long until a pool with something left is looked at again, and how often without progress; 0: without end.

    The pauses begin at `first_retry_s` and double up to `retry_s`.
    """

    retry_s: float
    first_retry_s: float
    attempts: int = 0

    def pause(self, attempts: int) -> float:
        return min(self.retry_s, self.first_retry_s * 2.0 ** min(attempts - 1, 20))


@dataclass
class _Pool:
    wanted: threading.Event = field(default_factory=threading.Event)
    waiting: int = 0


class PoolTasks:
    """Sweeps pools. `sweep` goes once through a pool, and ends early when `stopping` is set."""

    def __init__(self, noun: str, sweep: Callable[[PoolKey], Swept], pace: Pace) -> None:
        self._noun = noun
        self._sweep = sweep
        self._pace = pace
        self._guard = threading.Lock()
        self._pools: dict[PoolKey, _Pool] = {}
        self.stopping = threading.Event()

    def look_at(self, key: PoolKey) -> None:
        """Have a pool looked through soon; returns at once."""
        with self._guard:
            if self.stopping.is_set():
                return
            if pool := self._pools.get(key):
                pool.wanted.set()
                return
            pool = self._pools[key] = _Pool()
            pool.wanted.set()
            name = f"{self._noun}-{key.pool}"
            threading.Thread(target=self._work, args=(key, pool), name=name, daemon=True).start()

    def backlog(self) -> dict[tuple[str, str, str], int]:
        """How many things wait, by what is done with them, cluster and pool; as the last look at each pool found."""
        with self._guard:
            return {(self._noun, key.cluster_id, str(key.pool)): pool.waiting for key, pool in self._pools.items()}

    def stop(self) -> None:
        """End after what is being done now; the rest stands in Ceph."""
        with self._guard:
            self.stopping.set()
            pools = list(self._pools.values())
        for pool in pools:
            pool.wanted.set()

    def _work(self, key: PoolKey, pool: _Pool) -> None:
        tracing.begin(tracing.Call(self._noun, subject=str(key.pool)))
        attempts = 0
        while not self.stopping.is_set():
            pool.wanted.clear()
            swept = self._sweep_safely(key)
            with self._guard:
                pool.waiting = swept.waiting
                attempts = attempts + 1 if swept.waiting and not swept.cleared else 0
                if self._pace.attempts and attempts >= self._pace.attempts:
                    swept = replace(swept, waiting=0)  # given up, but for what is due later
                if swept.is_over and not pool.wanted.is_set():
                    del self._pools[key]
                    return
            # What was cleared may have been what something else waited or rested for: look through all of it again.
            if not swept.cleared and pool.wanted.wait(self._pause(swept, attempts)):
                attempts = 0

    def _pause(self, swept: Swept, attempts: int) -> float:
        until_due = max(0.0, min(swept.due_at - time.time(), _LONGEST_PAUSE_S))
        return min(until_due, self._pace.pause(attempts)) if swept.waiting else until_due

    def _sweep_safely(self, key: PoolKey) -> Swept:
        try:
            return self._sweep(key)
        except NotFound:
            return Swept()  # the pool is gone
        except Unauthenticated as error:
            # The user is gone, or has a new key: whoever calls with that has the pool looked at again.
            log.warning(f"{self._noun} of a pool ends", pool=key.pool, cluster=key.cluster_id, reason=str(error))
            return Swept()
        except DriverError as error:
            log.warning(f"{self._noun} waits", pool=key.pool, cluster=key.cluster_id, reason=str(error))
        except Exception:
            log.exception(f"{self._noun} of a pool failed", pool=key.pool, cluster=key.cluster_id)
        return Swept(waiting=1)
