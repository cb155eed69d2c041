"""What is looked at again and again goes on after a fault, and ends when it is told to."""

import threading

import pytest
from structlog.testing import capture_logs

from csi_driver import rounds
from csi_driver.rounds import Rounds


def test_a_round_that_fails_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_AFTER_FAULT_S", 0.0)
    went_on = threading.Event()
    done = 0

    def look() -> float:
        nonlocal done
        done += 1
        if done == 1:
            raise RuntimeError("something nobody thought of")
        went_on.set()
        return 60.0

    watching = Rounds("looking", look)
    with capture_logs() as logs:
        watching.start()
        assert went_on.wait(10)
        watching.stop()
    assert [(line["event"], line["of"]) for line in logs] == [("a round failed", "looking")]


def test_no_round_begins_before_its_time_nor_after_the_end() -> None:
    looked = threading.Event()

    def look() -> float:
        looked.set()
        return 0.0

    late = Rounds("late", look, first_after_s=60)
    late.start()
    late.stop()
    assert not looked.wait(0.2)
