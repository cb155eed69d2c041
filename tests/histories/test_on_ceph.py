"""A random history over a real Ceph, with two driver processes that die at random."""

import itertools
import os
import random
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from csi_driver.ceph.api import Pool
from csi_driver.dev.layout import DevCeph
from tests.fixtures.driver import StartDriver
from tests.histories.history import RealHistory
from tests.histories.replica import Replica
from tests.histories.world import RealWorld
from tests.simulation.ending import end
from tests.simulation.steps import Step, histories

STEPS = int(os.environ.get("REAL_STEPS", "300"))
SEED = int(os.environ.get("REAL_SEED", "1"))
_LENGTH = 100


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


@pytest.mark.timeout(max(1200, 4 * STEPS))
def test_no_history_on_a_real_ceph_breaks_a_rule(ceph_dev: DevCeph, pool: Pool, start_driver: StartDriver) -> None:
    """Two processes, which die at fail points and at any moment; the rules after each step, an empty pool at the end.

    REAL_SEED and REAL_STEPS name another history and a longer one. The moments are the machine's.
    """
    print(f"\nREAL_SEED={SEED} REAL_STEPS={STEPS}")  # noqa: T201 - the test's report
    turn, replicas = threading.Lock(), list[Replica]()

    def start() -> Replica:
        number = len(replicas)
        driver = start_driver("--controller", clusters=ceph_dev.config_json, node_id=f"node-{number}")
        chance = random.Random(SEED + number)
        replicas.append(Replica(driver, ceph_dev.secrets("provisioner"), pool, chance, turn))
        return replicas[-1]

    world, began = RealWorld(ceph_dev, pool, start), time.monotonic()
    history = RealHistory(world, turn)
    try:
        for step in drawn(SEED):
            _live(history, step)
            if history.taken >= STEPS:
                break
        took, taken = time.monotonic() - began, history.taken
        history.calm()
        end(history, SEED)
    finally:
        world.close()
        for replica in replicas:
            replica.revive()
    deaths = sum((replica.deaths for replica in replicas), start=type(replicas[0].deaths)())
    ended = time.monotonic() - began - took
    print(f"{taken} steps in {took:.0f} s, the end {ended:.0f} s, {deaths.total()} deaths: {dict(deaths)}")  # noqa: T201


def _live(history: RealHistory, step: Step) -> None:
    try:
        history.live([step])
    except Exception as failure:
        failure.add_note(f"at step {history.taken}: {step}")
        raise
