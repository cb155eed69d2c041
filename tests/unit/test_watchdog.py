"""Calls whose work takes long are named, each as often as its age has doubled."""

import time

from structlog.testing import capture_logs

from csi_driver.rpc.watchdog import Watchdog
from csi_driver.tracing import Call


def aged(seconds: float) -> Call:
    call = Call("CreateVolume", subject="pvc-1", started=time.monotonic() - seconds)
    call.phase = "images.create csi-vol-1"
    return call


def test_a_call_is_named_with_its_phase_when_it_is_older_than_the_limit() -> None:
    young, old = aged(1), aged(61)
    with capture_logs() as logs:
        Watchdog(lambda: {young: "dev", old: "dev"}, 60).look()
    (line,) = logs
    assert line["log_level"] == "warning"
    assert (line["gate"], line["of"]) == ("dev", "pvc-1")
    assert "images.create csi-vol-1" in line["doing"]
    assert old.call_id in line["doing"]


def test_it_is_named_again_when_its_age_has_doubled_and_not_before() -> None:
    call = aged(61)
    watchdog = Watchdog(lambda: {call: "dev"}, 60)
    with capture_logs() as logs:
        for age_s in (61, 62, 121, 123, 200, 247):
            call.started = time.monotonic() - age_s
            watchdog.look()
    assert len(logs) == 3


def test_a_call_that_has_ended_is_forgotten() -> None:
    calls = {aged(61): "dev"}
    watchdog = Watchdog(lambda: calls, 60)
    with capture_logs() as logs:
        watchdog.look()
        calls.clear()
        watchdog.look()
    assert len(logs) == 1
