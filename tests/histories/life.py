"""One life of a random history, as a program: `python -m tests.histories.life CEPH_DIRECTORY SEED STEPS`.

It is the test's librbd that reads what the drivers write, and now and then librbd takes its process with it. So the
history has a process of its own, which ends with 0 when no rule was broken, and with 1 and the traceback otherwise; the ends
of the drivers' logs are printed in either case. Drivers are below $TMPDIR.
"""

import itertools
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from csi_driver import logs
from csi_driver.ceph.api import Pool
from csi_driver.dev import cluster
from csi_driver.dev.layout import DevCeph
from tests.fixtures.driver import StartDriver, started_drivers
from tests.histories.history import RealHistory
from tests.histories.replica import Replica
from tests.histories.world import RealWorld
from tests.seam import operators_pool
from tests.simulation.ending import end
from tests.simulation.steps import Step, histories

_LENGTH = 100


def main() -> None:
    place, number, steps = sys.argv[1:]
    logs.set_up("warning", "text")
    ceph = cluster.made(Path(place))
    with operators_pool(ceph) as pool, started_drivers() as start_driver:
        Life(ceph, pool, start_driver, int(number)).live(int(steps))


class Life:
    """Two processes, which die at fail points and at any moment; the rules after each step, an empty pool at the end."""

    def __init__(self, ceph: DevCeph, pool: Pool, start_driver: StartDriver, number: int) -> None:
        self._ceph = ceph
        self._pool = pool
        self._start_driver = start_driver
        self._number = number
        self._turn = threading.Lock()
        self._replicas: list[Replica] = []

    def live(self, steps: int) -> None:
        world, began = RealWorld(self._ceph, self._pool, self._start), time.monotonic()
        history = RealHistory(world, self._turn)
        try:
            for step in drawn(self._number):
                _take(history, step)
                if history.taken >= steps:
                    break
            took, taken = time.monotonic() - began, history.taken
            history.calm()
            end(history, self._number)
        finally:
            world.close()
            for replica in self._replicas:
                replica.revive()
        deaths = sum((replica.deaths for replica in self._replicas), start=Counter[str]())
        ended = time.monotonic() - began - took
        told = f"{taken} steps in {took:.0f} s, the end {ended:.0f} s, {deaths.total()} deaths: {dict(deaths)}"
        sys.stdout.write(f"{told}\n")

    def _start(self) -> Replica:
        number = len(self._replicas)
        driver = self._start_driver("--controller", clusters=self._ceph.config_json, node_id=f"node-{number}")
        chance = random.Random(self._number + number)
        self._replicas.append(Replica(driver, self._ceph.secrets("provisioner"), self._pool, chance, self._turn))
        return self._replicas[-1]


def drawn(chosen: int) -> Iterator[Step]:
    """Steps without end, as Hypothesis draws them for the simulation: the same for the same number."""
    for number in itertools.count(chosen):
        yield from _histories(number)[-1]  # the first ones are the simplest


def _histories(chosen: int) -> list[list[Step]]:
    found: list[list[Step]] = []

    @seed(chosen)
    @settings(
        max_examples=5, phases=(Phase.generate,), database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(history=histories(_LENGTH))
    def keep(history: list[Step]) -> None:
        found.append(history)

    keep()
    return found


def _take(history: RealHistory, step: Step) -> None:
    try:
        history.live([step])
    except Exception as failure:
        failure.add_note(f"at step {history.taken}: {step}")
        raise


if __name__ == "__main__":
    main()
