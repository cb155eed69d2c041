"""A driver that librbd ends is started again, as the kubelet does, also behind the last call (docs/decisions/0030)."""

import signal
from collections.abc import Callable

import pytest

from csi_driver.dev.layout import DevCeph
from tests.controller.calls import Calls
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver
from tests.fixtures.emptiness import newly_left
from tests.rpc.valid_requests import GIB


def test_what_a_crash_cuts_short_behind_the_last_call_is_gone_on_with(
    ceph_dev: DevCeph,
    start_driver: StartDriver,
    calls_of: Callable[[DriverProcess], Calls],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(DriverProcess, "crashes", -1)  # this one is none of librbd's
    driver = start_driver("--controller", clusters=ceph_dev.config_json)
    calls = calls_of(driver)
    volumes = [calls.create(f"volume-{n}", GIB).volume_id for n in range(8)]
    for volume_id in volumes:
        calls.delete_until_done(volume_id)
    driver.send(signal.SIGABRT)
    assert newly_left(ceph_dev) == frozenset()
    assert driver.life == 1
