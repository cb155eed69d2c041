"""Limits on a device that stays attached: held before and after a change, and gone after their removal.

A limit is an upper bound, so that a loaded machine may only stay below it. RBD_CSI_LIMITS_S makes each measurement longer.
"""

import os
from pathlib import Path

import pytest

from csi_driver.dev.layout import DevCeph
from tests.controller.attached import Attached, attached
from tests.controller.calls import Calls
from tests.fixtures.driver import StartDriver
from tests.rpc.valid_requests import block

pytestmark = pytest.mark.usefixtures("clean_pool")

SECONDS = float(os.environ.get("RBD_CSI_LIMITS_S", "2.5"))
MIB, GIB = 1 << 20, 1 << 30

ABOVE = 1.15
"""How far above its limit a rate may be measured; in a short time a request more counts much."""

BELOW = 0.3


def held(rate: float, limit: float) -> bool:
    print(f"limit {limit}, measured {rate:.2f} a second: {rate / limit:.0%}")  # noqa: T201 - the test's report
    return limit * BELOW <= rate <= limit * ABOVE + 1 / SECONDS


def test_limits_are_held_by_a_device_that_stays_attached(
    ceph_dev: DevCeph, start_driver: StartDriver, tmp_path: Path
) -> None:
    driver = start_driver("--driver-name", "limits.csi.internal", clusters=ceph_dev.config_json)
    calls = Calls(driver.rpc, ceph_dev.secrets("provisioner"))
    limits = {"baseWriteIops": "15", "baseReadIops": "20"}
    limited = calls.create("limited", GIB, capability=block(), mutable=limits)

    def writes(device: Attached) -> float:
        return device.writes_per_s(SECONDS)

    with attached(driver.rpc, limited, ceph_dev.secrets("node"), tmp_path) as device:
        assert held(writes(device), 15)
        assert held(device.reads_per_s(SECONDS), 20)
        assert calls.modify(limited.volume_id, baseWriteIops="30") is None
        assert held(writes(device), 30)
        assert calls.modify(limited.volume_id, baseWriteIops="0", maxWriteBps=str(MIB)) is None
        assert held(device.writes_per_s(SECONDS, size_bytes=MIB // 8), 8)
        assert calls.modify(limited.volume_id, maxWriteBps="0", baseReadIops="0") is None
        free = {"writes": writes(device), "reads": device.reads_per_s(SECONDS)}
        print(f"without limits: {free}")  # noqa: T201
        assert free["writes"] > 30 * ABOVE
        assert free["reads"] > 20 * ABOVE
    calls.delete_until_done(limited.volume_id)
