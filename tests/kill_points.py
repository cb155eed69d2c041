"""The fail points at which drivers are killed, and who kills them there: one after another, each as often as any other."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from csi_driver import failpoints
from tests import kills
from tests.warm_driver import DyingDriver

_STEPS = (
    *("journal.claim", "images.create", "journal.complete"),  # an empty volume
    *("journal.claim_resize", "images.grow", "journal.record_size"),
    *("journal.begin", "images.cut", "images.clone", "images.adopt", "images.remove_snap"),  # snapshots and copies
    *("journal.mark_deleting", "images.move_to_trash", "journal.release_name", "journal.mark_trashed"),
    *("journal.mark_tombstone", "journal.forget"),
    *("journal.mark_purging", "images.drop_trashed_snaps", "images.purge", "journal.forget_deleted"),
)
_OFTEN_PASSED = ("objects.read_key", "objects.apply", "objects.write_classes")
POINTS = tuple(f"{step}:{place}" for step in (*_STEPS, *_OFTEN_PASSED) for place in ("before", "after"))
_OFTEN = 12
"""The visit at which one that is passed all the time kills is drawn up to here."""
_WITHIN_S = 20.0
"""After which a point that was not reached is left for another one: what it waits for may wait for the killed driver."""


@dataclass
class Killer:
    """Has each driver killed at one point after another, until so many kills have come of it."""

    drivers: tuple[DyingDriver, ...]
    chance: random.Random
    wanted: int
    hit: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    _pending: Counter[str] = field(default_factory=Counter)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Ends with all drivers running and no point armed. Raises DriverMisbehaved."""
        with ThreadPoolExecutor(len(self.drivers)) as threads:
            list(threads.map(self._kill, self.drivers))

    def give_up(self) -> None:
        """No further kills: there is nobody left who calls."""
        self.wanted = 0

    def table(self) -> str:
        rows = [f"{point:32}{self.hit[point]:5}{self.missed[point]:8}" for point in POINTS]
        return "\n".join([f"{'point':32}{'kills':>5}{'missed':>8}", *rows, f"{'':32}{self.hit.total():5}"])

    def _kill(self, driver: DyingDriver) -> None:
        driver.kill()
        while point := self._next():
            visit = self.chance.randint(1, _OFTEN) if point.startswith(_OFTEN_PASSED) else 1
            armed = f"{point}:{visit}=kill"
            driver.restart({failpoints.VARIABLE: armed}, ready_within_s=kills.ENDS_WITHIN_S)
            died = self._dies(driver)
            if not died:
                driver.kill()
            with self._guard:
                self._pending[point] -= 1
                (self.hit if died else self.missed)[point] += 1
        driver.restart({}, ready_within_s=kills.ENDS_WITHIN_S)

    def _next(self) -> str | None:
        with self._guard:
            begun = self.hit + self._pending
            if begun.total() >= self.wanted:
                return None
            least = min(begun[point] for point in POINTS)
            point = self.chance.choice([one for one in POINTS if begun[one] == least])
            self._pending[point] += 1
            return point

    def _dies(self, driver: DyingDriver) -> bool:
        deadline = time.monotonic() + _WITHIN_S
        while not driver.has_died():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True
