"""Which of many calls may begin: a few at once, in their order, and none waits behind one that waits for Ceph."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from csi_driver.rpc.turns import Turns

LONG_S = 60.0
SOON_S = 0.05


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def taken(turns: Turns, timeout_s: float | None = LONG_S) -> object:
    turn = turns.take(timeout_s)
    assert turn is not None
    return turn


def waiting(turns: Turns, threads: ThreadPoolExecutor, timeout_s: float, *, place: int) -> "Future[object | None]":
    """One more, as soon as it stands at that place of the queue."""
    future = threads.submit(turns.take, timeout_s)
    deadline = time.monotonic() + LONG_S
    while len(turns._waiting) < place:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return future


def test_so_many_begin_and_the_next_when_one_ends() -> None:
    turns = Turns(at_once=2, moment_s=LONG_S)
    first, _ = taken(turns), taken(turns)
    assert turns.take(0) is None
    assert turns.take(SOON_S) is None
    turns.give_back(first)
    taken(turns, 0)
    assert turns.take(0) is None


def test_what_takes_longer_than_a_moment_gives_its_turn_to_the_next() -> None:
    turns = Turns(at_once=1, moment_s=SOON_S)
    old = taken(turns)
    young = taken(turns)
    turns.give_back(old)
    assert turns.take(0) is None, "the turn that came back was nobody's any more"
    turns.give_back(young)
    taken(turns, 0)


def test_without_a_time_out_it_waits_for_as_long_as_it_takes(threads: ThreadPoolExecutor) -> None:
    turns = Turns(at_once=1, moment_s=LONG_S)
    first = taken(turns)
    second = threads.submit(taken, turns, None)
    turns.give_back(first)
    second.result(LONG_S)


def test_they_begin_in_the_order_in_which_they_came(threads: ThreadPoolExecutor) -> None:
    turns = Turns(at_once=1, moment_s=LONG_S)
    turn: object | None = taken(turns)
    futures = [waiting(turns, threads, LONG_S, place=number) for number in range(1, 6)]
    for number, future in enumerate(futures):
        assert not any(later.done() for later in futures[number:])
        turns.give_back(turn)
        turn = future.result(LONG_S)
        assert turn is not None
        assert turns.take(0) is None, "a newcomer stands behind those that wait"


def test_who_leaves_the_queue_holds_up_nobody_behind(threads: ThreadPoolExecutor) -> None:
    turns = Turns(at_once=1, moment_s=LONG_S)
    first = taken(turns)
    leaves = waiting(turns, threads, SOON_S, place=1)
    stays = threads.submit(turns.take, LONG_S)
    assert leaves.result(LONG_S) is None
    turns.give_back(first)
    assert stays.result(LONG_S) is not None


def test_many_threads_lose_no_turn(threads: ThreadPoolExecutor) -> None:
    turns, at_once, guard, most = Turns(at_once=3, moment_s=LONG_S), 0, threading.Lock(), 0

    def work(_: int) -> None:
        nonlocal at_once, most
        turn = taken(turns)
        with guard:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0)
        with guard:
            at_once -= 1
        turns.give_back(turn)

    list(threads.map(work, range(2000)))
    assert 0 < most <= 3
    for _ in range(3):
        taken(turns, 0)
    assert turns.take(0) is None
