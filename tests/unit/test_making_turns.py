"""How many creates wait for Ceph in one pool."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from csi_driver.ceph.cluster.making_turns import MOST_IN_POOL, MakingTurns
from csi_driver.errors import Busy
from csi_driver.rpc.gate import RUNNING_LIMIT

LONG_S = 60.0


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_a_pool_that_hangs_leaves_some_of_the_clusters_threads_to_others() -> None:
    assert 0 < MOST_IN_POOL < RUNNING_LIMIT


def test_one_more_waits_for_its_turn(threads: ThreadPoolExecutor) -> None:
    turns, entered = MakingTurns(LONG_S, most=2), threading.Event()

    def enter() -> None:
        with turns.hold("dev", 2, "rbd"):
            entered.set()

    with ExitStack() as first, turns.hold("dev", 2, "rbd"):
        first.enter_context(turns.hold("dev", 2, "rbd"))
        third = threads.submit(enter)
        assert not entered.wait(0.05)
        first.close()
        third.result(LONG_S)


def test_where_none_ends_one_more_is_refused_and_told_why() -> None:
    turns = MakingTurns(0.01, most=1)
    with (
        turns.hold("dev", 2, "rbd"),
        pytest.raises(Busy, match=r"1 images are being made in pool 'rbd', the first for 0 s: its OSDs"),
        turns.hold("dev", 2, "rbd"),
    ):
        pass
    with turns.hold("dev", 2, "rbd"):  # free again
        pass


def test_where_the_first_hangs_nobody_waits_behind_it() -> None:
    now_s = 1000.0
    turns = MakingTurns(LONG_S, most=1, clock=lambda: now_s)
    with turns.hold("dev", 2, "rbd"):
        now_s += 2 * LONG_S
        with pytest.raises(Busy, match="the first for 120 s"), turns.hold("dev", 2, "rbd"):
            pass
    with turns.hold("dev", 2, "rbd"):  # free again
        pass


def test_other_pools_and_clusters_have_turns_of_their_own() -> None:
    turns = MakingTurns(0.01, most=1)
    with turns.hold("dev", 2, "rbd"), turns.hold("dev", 3, "second"), turns.hold("other", 2, "rbd"):
        pass
