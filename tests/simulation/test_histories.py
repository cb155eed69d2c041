"""Random histories over the in-memory Ceph."""

import os
import random
import time

import pytest

from tests.simulation.runs import Run

STEPS = int(os.environ.get("SIMULATION_STEPS", "30000"))
"""Of both clone formats together."""


@pytest.mark.timeout(max(900, STEPS // 30))  # a failure is shrunk for up to five minutes
@pytest.mark.parametrize("clones_format_2", [True, False], ids=["format 2", "format 1"])
def test_no_history_breaks_a_rule(clones_format_2: bool) -> None:
    """The rules: invariants.py after each step, and an empty pool at the end.

    The histories are the same in every run, unless SIMULATION_SEED names others: a number, or `random`.
    """
    named = os.environ.get("SIMULATION_SEED", "1")
    chosen = random.SystemRandom().randrange(1 << 32) if named == "random" else int(named)
    run = Run(chosen, clones_format_2=clones_format_2)
    began = time.perf_counter()
    try:
        run.until(STEPS // 2)
    finally:
        took = time.perf_counter() - began
        print(f"SIMULATION_SEED={chosen}: {run.steps} steps in {took:.1f} s, {run.steps / took:.0f} a second")  # noqa: T201
    assert run.steps >= STEPS // 2
