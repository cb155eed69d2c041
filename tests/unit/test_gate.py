"""The gate before Ceph's work: answers in time, whatever the work does."""

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

import pytest

from csi_driver import tracing
from csi_driver.errors import Busy, StillWorking
from csi_driver.rpc import gate
from csi_driver.rpc.gate import Gates
from csi_driver.rpc.turns import Turns
from csi_driver.tracing import Call

T = TypeVar("T")

SOON_S = 0.05
"""A deadline that is meant to pass."""


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that lets two in, and has one wait."""
    monkeypatch.setattr(gate, "RUNNING_LIMIT", 2)
    monkeypatch.setattr(gate, "WAITING_LIMIT", 1)


class Held:
    """Work that says when it began and ends when it is told to."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.ended = threading.Event()

    def __call__(self) -> str:
        self.began.set()
        assert self.may_end.wait(30)
        self.ended.set()
        return "done"

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *_: object) -> None:
        self.may_end.set()


def in_call(work: Callable[[], T], *, seconds: float = 30.0, method: str = "CreateVolume") -> T:
    """As the interceptor has it: a call with a deadline, and the work behind the gate."""

    def begin() -> T:
        tracing.begin(Call(method, deadline=time.monotonic() + seconds))
        return work()

    return contextvars.copy_context().run(begin)


def test_the_result_of_the_work_is_the_answer() -> None:
    assert in_call(lambda: Gates().run("a", lambda: 41 + 1)) == 42


@pytest.mark.parametrize("error", [Busy("b"), KeyError("k"), TimeoutError("the work's own")], ids=repr)
def test_an_error_of_the_work_is_raised_as_it_is(error: Exception) -> None:
    """Also one that looks like the gate's own."""

    def work() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        in_call(lambda: Gates().run("a", work))
    assert raised.value is error


def test_the_work_knows_its_call() -> None:
    call = in_call(lambda: Gates().run("a", tracing.current), method="DeleteVolume")
    assert call is not None
    assert call.method == "DeleteVolume"


def test_work_without_a_call_is_waited_for(threads: ThreadPoolExecutor) -> None:
    """It has no deadline."""
    gates = Gates()
    with Held() as work:
        answer = threads.submit(gates.run, "a", work)
        assert work.began.wait(30)
    assert answer.result(30) == "done"


def test_when_the_deadline_passes_the_answer_comes_and_the_work_goes_on_to_its_end() -> None:
    gates = Gates()
    with Held() as work:
        with pytest.raises(StillWorking, match=r"CreateVolume.*repeat the call"):
            in_call(lambda: gates.run("a", work), seconds=SOON_S)
        assert work.began.is_set()
        assert not work.ended.is_set()
    assert work.ended.wait(30)
    assert gates.drain(30)


def test_a_deadline_that_has_passed_already_lets_nothing_hang() -> None:
    gates = Gates()
    with Held() as work, pytest.raises((StillWorking, Busy)):
        in_call(lambda: gates.run("a", work), seconds=-1)
    assert gates.drain(30)


def occupy(gates: Gates, threads: ThreadPoolExecutor, held: list[Held], key: str = "a") -> "list[Future[str]]":
    answers = [threads.submit(in_call, lambda work=work: gates.run(key, work)) for work in held]
    for work in held:
        assert work.began.wait(30)
    return answers


def test_a_call_that_never_gets_its_turn_is_busy_and_never_runs(small: None, threads: ThreadPoolExecutor) -> None:
    """Its answer says so, and a repeated call must not meet it later."""
    gates, late = Gates(), threading.Event()
    with ExitStack() as stack:
        held = [stack.enter_context(Held()) for _ in range(2)]
        running = occupy(gates, threads, held)
        with pytest.raises(Busy, match="did not get its turn"):
            in_call(lambda: gates.run("a", late.set), seconds=SOON_S)
    assert [answer.result(30) for answer in running] == ["done", "done"]
    assert gates.drain(30)
    assert in_call(lambda: gates.run("a", lambda: "next")) == "next", "its place is free again"
    assert not late.is_set()


def test_calls_begin_in_turns(monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor) -> None:
    """However many threads there are; and the turn of what has ended is free."""
    monkeypatch.setattr(gate, "Turns", lambda: Turns(at_once=1, moment_s=60))
    gates, late = Gates(), threading.Event()
    with Held() as work:
        occupy(gates, threads, [work])
        with pytest.raises(Busy, match="did not get its turn"):
            in_call(lambda: gates.run("a", late.set), seconds=SOON_S)
    assert gates.drain(30)
    assert in_call(lambda: gates.run("a", lambda: "next")) == "next"
    assert not late.is_set()


def test_a_waiting_call_runs_when_another_ends(small: None, threads: ThreadPoolExecutor) -> None:
    gates = Gates()
    with Held() as first, Held() as second:
        occupy(gates, threads, [first, second])
        waiting = threads.submit(in_call, lambda: gates.run("a", lambda: "mine"))
        first.may_end.set()
        assert waiting.result(30) == "mine"


def test_a_full_gate_refuses_at_once_and_other_keys_are_not_touched(small: None, threads: ThreadPoolExecutor) -> None:
    gates, admitted = Gates(), gate.RUNNING_LIMIT + gate.WAITING_LIMIT
    with ExitStack() as stack:
        held = [stack.enter_context(Held()) for _ in range(gate.RUNNING_LIMIT)]
        occupy(gates, threads, held)
        waiting = [threads.submit(in_call, lambda: gates.run("a", lambda: "late")) for _ in range(gate.WAITING_LIMIT)]
        refused = refused_when_full(gates)
        assert f"({admitted})" in refused
        assert in_call(lambda: gates.run("b", lambda: "free")) == "free"
    assert [answer.result(30) for answer in waiting] == ["late"]


def refused_when_full(gates: Gates) -> str:
    """The answer to a call once those submitted before have come in; a short one that comes too early just waits."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            in_call(lambda: gates.run("a", lambda: None), seconds=SOON_S)
        except Busy as refusal:
            if "at once" in str(refusal):
                return str(refusal)
    raise AssertionError("the gate never got full")


def test_after_refusals_and_errors_the_gate_is_empty(small: None, threads: ThreadPoolExecutor) -> None:
    """No place is lost, however a call ends: the gate admits as many as on its first day."""
    gates = Gates()

    def fail() -> None:
        raise ValueError("the work's own fault")

    for _ in range(10):
        with pytest.raises(ValueError, match="own fault"):
            in_call(lambda: gates.run("a", fail))
    with ExitStack() as stack:
        occupy(gates, threads, [stack.enter_context(Held()) for _ in range(2)])
        for _ in range(10):
            with pytest.raises(Busy, match="did not get its turn"):
                in_call(lambda: gates.run("a", lambda: None), seconds=0)
        assert not gates.drain(0), "two are inside"
    assert gates.drain(30)


def test_draining_waits_for_work_whose_answer_was_given(threads: ThreadPoolExecutor) -> None:
    gates = Gates()
    with Held() as work:
        with pytest.raises(StillWorking):
            in_call(lambda: gates.run("a", work), seconds=SOON_S)
        assert not gates.drain(SOON_S)
        draining = threads.submit(gates.drain, 30)
    assert draining.result(30)
    assert work.ended.is_set()


def test_an_unused_gate_is_drained_at_once() -> None:
    assert Gates().drain(0)


def test_a_gate_is_quiet_when_its_last_call_has_ended_some_time_ago(threads: ThreadPoolExecutor) -> None:
    gates = Gates()
    assert gates.await_quiet("a", 30, 0), "nobody ever called"
    with Held() as work:
        occupy(gates, threads, [work])
        assert not gates.await_quiet("a", 0, SOON_S), "a call is inside"
        waiting = threads.submit(gates.await_quiet, "a", SOON_S, 30)
    assert waiting.result(30)
    assert gates.await_quiet("a", SOON_S, SOON_S), "it has been for so long already"


def test_a_gate_is_not_quiet_right_after_a_call(threads: ThreadPoolExecutor) -> None:
    """Another may be behind it."""
    gates = Gates()
    in_call(lambda: gates.run("a", lambda: None))
    assert gates.drain(30)
    assert not gates.await_quiet("a", 3600, SOON_S)
    assert gates.await_quiet("b", 3600, SOON_S), "other gates are quiet meanwhile"
