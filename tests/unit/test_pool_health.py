"""What a cluster's health report says of one pool."""

import pytest

from csi_driver.ceph.api import HealthCheck
from csi_driver.model import HealthStatus
from csi_driver.operations.pool_health import PoolName, pool_troubles

RBD, DATA = PoolName(2, "rbd"), PoolName(12, "data")

QUOTA = "pool 'rbd' is full (running out of quota)"


@pytest.mark.parametrize(
    ("code", "detail", "status", "reason"),
    [
        ("POOL_FULL", QUOTA, HealthStatus.DEGRADED, "PoolFull"),
        ("POOL_NEARFULL", "pool 'rbd' is nearfull", HealthStatus.DEGRADED, "PoolNearFull"),
        ("POOL_NEAR_FULL", "pool 'rbd' has 9 objects (max 10)", HealthStatus.DEGRADED, "PoolNearFull"),
        ("PG_AVAILABILITY", "pg 2.1f is down, acting [0,1]", HealthStatus.INACCESSIBLE, "PlacementGroupsDown"),
        ("OBJECT_UNFOUND", "pg 2.a has 1 unfound objects", HealthStatus.DATA_LOSS, "ObjectsUnfound"),
    ],
)
def test_a_check_that_names_the_pool_is_its_trouble(code: str, detail: str, status: HealthStatus, reason: str) -> None:
    (trouble,) = pool_troubles([HealthCheck(code, (detail,))], [RBD])
    assert (trouble.status, trouble.reason) == (status, reason)
    assert detail in trouble.message


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        ("POOL_FULL", "pool 'rbd2' is full (running out of quota)"),
        ("PG_AVAILABILITY", "pg 12.2 is down, acting [2]"),
        ("OSD_DOWN", "osd.2 (root=default,host=rbd) is down"),
        ("PG_AVAILABILITY", ""),
    ],
)
def test_a_check_of_something_else_is_none(code: str, detail: str) -> None:
    assert pool_troubles([HealthCheck(code, (detail,))], [RBD]) == []


def test_a_volume_has_the_troubles_of_its_data_pool_and_each_once() -> None:
    checks = [
        HealthCheck("POOL_FULL", (QUOTA, "pool 'data' is full (no space)")),
        HealthCheck("PG_AVAILABILITY", ("pg 12.0 is incomplete, acting [1]", "pg 12.1 is incomplete, acting [1]")),
    ]
    found = [trouble.reason for trouble in pool_troubles(checks, [RBD, DATA])]
    assert found == ["PoolFull", "PlacementGroupsDown"]
