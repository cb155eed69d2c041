"""How often and when the tests at random moments kill: KILLS and KILLS_SEED, for `make soak` and to see a run again."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import grpc

from tests.controller.calls import UNFINISHED, Calls

ENDS_WITHIN_S = 600.0
"""What a killed client leaves keeps an image busy for half a minute each time, on a loaded machine for several minutes."""


def timeout_s(usual: int) -> float:
    """Of a test with so many kills."""
    return 2 * ENDS_WITHIN_S + 30 * kills(usual)


def kills(usual: int) -> int:
    return int(os.environ.get("KILLS", usual))


def chance() -> random.Random:
    """What decides the moments; which step they meet is for the machine to say."""
    seed = int(os.environ.get("KILLS_SEED", "1"))
    print(f"\nKILLS_SEED={seed}")  # noqa: T201 - the test's report
    return random.Random(seed)


@contextmanager
def callers(count: int, call: Callable[[int, threading.Event], None]) -> Iterator[None]:
    """So many threads make `call` while the block runs, with their number and what is set when the block is left.

    In the end all have been answered, and none of them wrongly.
    """
    ended, failures = threading.Event(), list[BaseException]()

    def guarded(number: int) -> None:
        try:
            call(number, ended)
        except BaseException as failure:  # noqa: BLE001 - told by the main thread
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
    _await_end(threads, failures)


def _await_end(threads: Sequence[threading.Thread], failures: Sequence[BaseException]) -> None:
    for thread in threads:
        thread.join(ENDS_WITHIN_S)
    assert not failures, failures
    assert not any(thread.is_alive() for thread in threads), f"calls are not answered after {ENDS_WITHIN_S} s"


def delete_after_kills(calls: Calls, volume_id: str) -> None:
    """A volume that is in use is not deleted, and for Ceph it is, until the watch of a killed driver has timed out."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while answer := calls.delete(volume_id):
        assert answer.code in (*UNFINISHED, grpc.StatusCode.FAILED_PRECONDITION), answer
        assert time.monotonic() < deadline, answer
