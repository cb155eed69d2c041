"""Locks by key: all or none, never a wait, and an answer that says who is in the way."""

import contextvars
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from csi_driver import tracing
from csi_driver.errors import Busy
from csi_driver.locks import KeyedLocks
from csi_driver.tracing import Call, step


def is_free(locks: KeyedLocks, *keys: str) -> bool:
    try:
        with locks.hold(*keys):
            return True
    except Busy:
        return False


def in_call(call: Call, work: Callable[[], None]) -> None:
    """Work as a thread of this call does it."""

    def begin() -> None:
        tracing.begin(call)
        work()

    contextvars.copy_context().run(begin)


def test_a_key_is_held_by_one_and_free_afterwards() -> None:
    locks = KeyedLocks()
    with locks.hold("a"):
        assert not is_free(locks, "a")
        assert is_free(locks, "b")
    assert is_free(locks, "a")


def test_of_several_keys_all_are_taken_or_none() -> None:
    locks = KeyedLocks()
    with locks.hold("b"):
        assert not is_free(locks, "a", "b", "c")
        assert is_free(locks, "a", "c")
    assert is_free(locks, "a", "b", "c")


@pytest.mark.parametrize(
    ("held", "held_shared", "wanted", "wanted_shared", "is_given"),
    [
        (("a",), (), ("a",), (), False),
        (("a",), (), (), ("a",), False),
        ((), ("a",), ("a",), (), False),
        ((), ("a",), (), ("a",), True),
        (("a",), ("s",), ("b",), ("s",), True),
        (("a",), ("s",), ("b", "s"), (), False),
        (("a",), ("s",), ("b",), ("s", "a"), False),
    ],
)
def test_exclusive_excludes_all_and_shared_only_exclusive(
    held: tuple[str, ...],
    held_shared: tuple[str, ...],
    wanted: tuple[str, ...],
    wanted_shared: tuple[str, ...],
    is_given: bool,
) -> None:
    locks, given = KeyedLocks(), True
    with locks.hold(*held, shared=held_shared):
        try:
            with locks.hold(*wanted, shared=wanted_shared):
                pass
        except Busy:
            given = False
    assert given is is_given
    assert is_free(locks, "a", "b", "s"), "nothing stays held"


def test_the_last_of_those_who_share_a_key_sets_it_free() -> None:
    locks = KeyedLocks()
    with locks.hold(shared=["s"]):
        with locks.hold(shared=["s"]):
            pass
        assert not is_free(locks, "s")
    assert is_free(locks, "s")


def test_an_error_inside_releases_and_is_not_hidden() -> None:
    locks = KeyedLocks()
    with pytest.raises(ZeroDivisionError), locks.hold("a", shared=["s"]):
        raise ZeroDivisionError
    assert is_free(locks, "a", "s")


@pytest.mark.parametrize("shared", [False, True], ids=["exclusive", "shared"])
def test_who_is_in_the_way_is_named_with_the_phase_it_is_in(shared: bool) -> None:
    locks = KeyedLocks()
    holder = Call("DeleteVolume", subject="v1")

    def work() -> None:
        with (
            locks.hold(*(() if shared else ("volume v1",)), shared=("volume v1",) if shared else ()),
            step("images.purge", "csi-vol-1"),
            pytest.raises(Busy) as refused,
            locks.hold("volume v1"),
        ):
            pass
        said = str(refused.value)
        for part in ("volume v1", "DeleteVolume", holder.call_id, "images.purge csi-vol-1", "repeat"):
            assert part in said

    in_call(holder, work)


def test_what_last_went_wrong_for_the_holder_is_said_too() -> None:
    locks = KeyedLocks()

    def work() -> None:
        with locks.hold("a"):
            with pytest.raises(TimeoutError), step("objects.read", "csi.volumes.default"):
                raise TimeoutError("no answer from osd.7")
            with pytest.raises(Busy, match=r"osd\.7"), locks.hold("a"):
                pass

    in_call(Call("CreateVolume"), work)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads change over as often as can be, so that a gap between two steps is met."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_many_threads_never_hold_one_key_together(hasty_threads: None) -> None:
    """Pairs of neighbouring keys, so that whoever takes half of them would block its neighbours for good."""
    locks, keys = KeyedLocks(), [f"key {number}" for number in range(9)]
    inside, together, done = dict.fromkeys(keys, 0), list[str](), [0]
    guard, start = threading.Lock(), threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        pair = list(pairwise(keys))[number]
        for _ in range(300):
            try:
                with locks.hold(*pair):
                    for key in pair:
                        inside[key] += 1
                    together.extend(key for key in pair if inside[key] != 1)
                    for key in pair:
                        inside[key] -= 1
                with guard:
                    done[0] += 1
            except Busy:
                pass

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert together == []
    assert done[0] > 0
    assert is_free(locks, *keys)
