"""Calls, their steps, and the points at which tests make steps fail."""

import contextvars
import threading

import pytest

from csi_driver import failpoints, tracing
from csi_driver.errors import ClusterTimeout, ClusterUnavailable
from csi_driver.tracing import Call, step


@pytest.fixture(autouse=True)
def nothing_armed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "armed", {})
    failpoints._visits.clear()


@pytest.mark.parametrize(
    ("text", "armed"),
    [
        ("", {}),
        (";;", {}),
        ("images.create:after=kill", {"images.create:after": (1, "kill")}),
        ("journal.begin:before:3=stop", {"journal.begin:before": (3, "stop")}),
        (
            "a.b:before=delay:0.25; c_d:after:12=error:110",
            {"a.b:before": (1, "delay:0.25"), "c_d:after": (12, "error:110")},
        ),
    ],
)
def test_entries_name_step_side_visit_and_action(text: str, armed: dict[str, tuple[int, str]]) -> None:
    failpoints.arm(text)
    assert {place: (point.hit, point.action) for place, point in failpoints.armed.items()} == armed


@pytest.mark.parametrize(
    "entry",
    [
        "images.create",
        "images.create=kill",
        "images.create:during=kill",
        "images.create:after",
        "images.create:after=explode",
        "images.create:after:0=kill",
        "images.create:after:x=kill",
        "images.create:after=delay",
        "images.create:after=delay:1.2.3",
        "images.create:after=delay:-1",
        "images.create:after=error:EIO",
        "Images:after=kill",
    ],
)
def test_a_malformed_entry_is_refused_by_name(entry: str) -> None:
    with pytest.raises(ValueError, match=r"RBD_CSI_FAILPOINTS.*STEP:before\|after") as refused:
        failpoints.arm(f"good.one:after=kill;{entry}")
    assert repr(entry) in str(refused.value)


@pytest.mark.parametrize(
    ("number", "error"), [(110, ClusterTimeout), (5, ClusterUnavailable), (108, ClusterUnavailable)]
)
@pytest.mark.parametrize("side", ["before", "after"])
def test_an_armed_step_fails_on_its_side_of_the_work(side: str, number: int, error: type[Exception]) -> None:
    failpoints.arm(f"images.grow:{side}=error:{number}")
    done = []
    with pytest.raises(error, match=f"images.grow:{side}"), step("images.grow", "i"):
        done.append("work")
    assert done == (["work"] if side == "after" else [])


def test_only_the_visit_that_was_named_fails() -> None:
    failpoints.arm("images.grow:before:2=error:5")
    outcomes = []
    for _ in range(4):
        try:
            with step("images.grow", "i"):
                outcomes.append("done")
        except ClusterUnavailable:
            outcomes.append("failed")
    assert outcomes == ["done", "failed", "done", "done"]


def test_the_error_of_a_step_goes_before_that_of_its_failpoint() -> None:
    """What is raised inside is chained to the injected error, so that a log shows both."""
    failpoints.arm("images.grow:after=error:5")
    with pytest.raises(ClusterUnavailable) as raised, step("images.grow", "i"):
        raise KeyError("inside")
    assert isinstance(raised.value.__context__, KeyError)


def test_a_call_tells_its_phase_and_its_last_trouble() -> None:
    call = Call("CreateVolume", subject="pvc-1")

    def work() -> None:
        tracing.begin(call)
        with step("images.create", "csi-vol-1"):
            assert "images.create csi-vol-1" in call.describe()
        with pytest.raises(OSError, match="full"), step("journal.begin", "uuid-1"):
            raise OSError("full")

    contextvars.copy_context().run(work)
    said = call.describe()
    for part in ("CreateVolume", call.call_id, "journal.begin uuid-1", "last trouble: journal.begin uuid-1: full"):
        assert part in said


def test_calls_have_ids_of_their_own() -> None:
    assert len({Call("Probe").call_id for _ in range(100)}) == 100


def test_a_thread_has_no_call_until_it_begins_one() -> None:
    seen: list[Call | None] = []

    def work() -> None:
        tracing.begin(Call("CreateVolume"))
        thread = threading.Thread(target=lambda: seen.append(tracing.current()))
        thread.start()
        thread.join()

    contextvars.copy_context().run(work)
    assert seen == [None]
    assert tracing.current() is None
