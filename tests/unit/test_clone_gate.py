"""Which clones a connection makes at one time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from csi_driver.ceph.clone_gate import CloneGate

TIMEOUT_S = 60.0


def test_clones_of_one_format_run_at_once_and_the_other_waits_for_them() -> None:
    """The format is changed only while no clone runs."""
    chosen: list[str] = []
    gate = CloneGate(chosen.append)
    both, go_on = threading.Barrier(3, timeout=TIMEOUT_S), threading.Event()

    def clone(chosen_format: str) -> list[str]:
        with gate.hold(chosen_format):
            before = list(chosen)
            if chosen_format == "auto":
                both.wait()
                assert go_on.wait(TIMEOUT_S)
            assert chosen == before
            return before

    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(clone, "auto") for _ in range(2)]
        both.wait()
        other = threads.submit(clone, "1")
        assert not other.done()
        go_on.set()
        assert [one.result(TIMEOUT_S) for one in running] == [[], []]
        assert other.result(TIMEOUT_S) == ["1"]


def test_no_more_run_at_once_than_are_allowed() -> None:
    gate = CloneGate(lambda _chosen: None)
    guard, running, most = threading.Lock(), 0, 0

    def clone(_number: int) -> None:
        nonlocal running, most
        with gate.hold("1", most=2):
            with guard:
                running += 1
                most = max(most, running)
            with guard:
                running -= 1

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(clone, range(2000)))
    assert 1 <= most <= 2


def test_a_clone_that_fails_leaves_its_place() -> None:
    gate = CloneGate(lambda _chosen: None)
    entered: list[str] = []
    for chosen in ("1", "auto", "1"):
        with suppress(ZeroDivisionError), gate.hold(chosen, most=1):
            entered.append(chosen)
            _ = 1 / 0
    assert entered == ["1", "auto", "1"]
