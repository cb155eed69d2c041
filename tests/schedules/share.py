"""How many schedules a run takes, and from which number on: SCHEDULES and SCHEDULES_SEED.

Each of the two tests takes half of them, in a file of its own, so that two workers take them at once.
"""

import os
import random

from tests.schedules.taking import explained, take

SCHEDULES = int(os.environ.get("SCHEDULES", "100000"))


def timeout_s() -> int:
    return max(900, SCHEDULES // 20)


def check_half(*, clones_format_2: bool) -> None:
    named = os.environ.get("SCHEDULES_SEED", "0")
    seed = random.SystemRandom().randrange(1 << 48) if named == "random" else int(named)
    taken = take(seed, SCHEDULES // 2, clones_format_2=clones_format_2)
    print(f"\nSCHEDULES_SEED={seed}\n{taken.table()}\n{taken.summary()}")  # noqa: T201 - the test's report
    assert taken.failure is None, explained(taken)
    assert not taken.missed, f"not met: {taken.missed}"
