"""When a pool is looked through again: after trouble, when something is due, and when not any more."""

import threading
import time

from csi_driver.errors import Unauthenticated
from csi_driver.operations.pool_tasks import Pace, PoolTasks, Swept
from csi_driver.operations.site import PoolKey

KEY = PoolKey("c", None, 1)
PROMPT = Pace(retry_s=0.01, first_retry_s=0.01, attempts=3)
_LONG_S = 20.0


class Sweeps:
    """Answers each sweep of KEY with the next of `results`, and with nothing left afterwards."""

    def __init__(self, *results: Swept) -> None:
        self._results = list(results)
        self.at: list[float] = []
        self.swept = threading.Condition()

    def __call__(self, key: PoolKey) -> Swept:
        with self.swept:
            self.at.append(time.time())
            self.swept.notify_all()
            return self._results[len(self.at) - 1] if len(self.at) <= len(self._results) else Swept()

    def wait_for(self, number: int) -> None:
        with self.swept:
            assert self.swept.wait_for(lambda: len(self.at) >= number, _LONG_S), f"{len(self.at)} sweeps"


def has_ended(tasks: PoolTasks) -> bool:
    deadline = time.monotonic() + _LONG_S
    while any(thread.name == f"test-{KEY.pool}" for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_what_is_due_is_looked_at_then_and_not_before() -> None:
    due_at = time.time() + 0.5
    sweeps = Sweeps(Swept(due_at=due_at), Swept(cleared=1))
    tasks = PoolTasks("test", sweeps, PROMPT)
    tasks.look_at(KEY)
    sweeps.wait_for(3)
    assert has_ended(tasks)
    assert len(sweeps.at) == 3, "one that finds it, one that clears it, one that finds nothing"
    assert due_at - 0.05 <= sweeps.at[1] < due_at + 5


def test_what_is_due_later_outlives_the_giving_up_of_what_is_in_trouble() -> None:
    due_at = time.time() + 1.0
    troubled = Swept(waiting=1, due_at=due_at)
    sweeps = Sweeps(troubled, troubled, troubled, Swept(cleared=1))
    tasks = PoolTasks("test", sweeps, PROMPT)
    tasks.look_at(KEY)
    sweeps.wait_for(5)
    assert has_ended(tasks)
    assert len(sweeps.at) == 5
    assert sweeps.at[2] < due_at - 0.05 <= sweeps.at[3], "tried thrice at once, and then again when it is due"


def test_trouble_alone_is_given_up() -> None:
    sweeps = Sweeps(*[Swept(waiting=1)] * 10)
    tasks = PoolTasks("test", sweeps, PROMPT)
    tasks.look_at(KEY)
    assert has_ended(tasks)
    assert len(sweeps.at) == PROMPT.attempts


def test_a_key_that_is_not_accepted_any_more_is_not_tried_again() -> None:
    tried = []

    def sweep(key: PoolKey) -> Swept:
        tried.append(key)
        raise Unauthenticated("the user has a new key")

    tasks = PoolTasks("test", sweep, PROMPT)
    tasks.look_at(KEY)
    assert has_ended(tasks)
    assert tried == [KEY]


def test_a_new_wish_and_the_end_of_the_process_do_not_wait_for_what_is_due() -> None:
    later = Swept(due_at=time.time() + 3600)
    sweeps = Sweeps(later, later, later)
    tasks = PoolTasks("test", sweeps, PROMPT)
    tasks.look_at(KEY)
    sweeps.wait_for(1)
    tasks.look_at(KEY)
    sweeps.wait_for(2)
    tasks.stop()
    assert has_ended(tasks)
    assert len(sweeps.at) == 2


def test_the_earliest_of_what_is_due_counts() -> None:
    swept = Swept(cleared=1, due_at=20.0) + Swept(waiting=2, due_at=10.0) + Swept()
    assert swept == Swept(cleared=1, waiting=2, due_at=10.0)
