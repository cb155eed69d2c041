"""What a cluster's own health report says of one pool: pure decisions over `ceph health detail`.

A check is read only for the pools that its details name: a pool that is full says nothing of its neighbour. The monitor
lists at most fifty placement groups in one check (mon_health_max_detail), so that in a large outage a pool may be missing
here; an image that does not answer is found by asking it (volume_health.py).
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from csi_driver.ceph.api import HealthCheck
from csi_driver.model import HealthStatus, VolumeTrouble

_QUOTED_POOL = re.compile(r"pool '([^']+)'")
_PLACEMENT_GROUP = re.compile(r"\bpg (\d+)\.[0-9a-f]+ ")


@dataclass(frozen=True)
class PoolName:
    """A pool as health checks name it: full ones by name, placement groups by id."""

    pool_id: int
    name: str


@dataclass(frozen=True)
class _Rule:
    status: HealthStatus
    reason: str
    concerns: Callable[[str, PoolName], bool]
    consequence: str


def _names_pool(detail: str, pool: PoolName) -> bool:
    return pool.name in _QUOTED_POOL.findall(detail)


def _names_placement_group(detail: str, pool: PoolName) -> bool:
    return str(pool.pool_id) in _PLACEMENT_GROUP.findall(detail)


_RULES = {
    "POOL_FULL": _Rule(HealthStatus.DEGRADED, "PoolFull", _names_pool, "writes fail"),
    "POOL_NEARFULL": _Rule(HealthStatus.DEGRADED, "PoolNearFull", _names_pool, "writes will fail soon"),
    "POOL_NEAR_FULL": _Rule(HealthStatus.DEGRADED, "PoolNearFull", _names_pool, "writes will fail soon"),
    "PG_AVAILABILITY": _Rule(
        HealthStatus.INACCESSIBLE, "PlacementGroupsDown", _names_placement_group, "reads and writes may hang"
    ),
    "OBJECT_UNFOUND": _Rule(
        HealthStatus.DATA_LOSS, "ObjectsUnfound", _names_placement_group, "the newest copy of some data is lost"
    ),
}
"""Ceph documentation, "Health checks"; POOL_NEAR_FULL is the quota's, POOL_NEARFULL the OSDs'."""


def pool_troubles(checks: Iterable[HealthCheck], pools: Iterable[PoolName]) -> list[VolumeTrouble]:
    """What the checks say of a volume that lies in these pools; each pair of status and reason once."""
    found: dict[tuple[HealthStatus, str], VolumeTrouble] = {}
    named = tuple(pools)
    for check in checks:
        rule = _RULES.get(check.code)
        if rule is None:
            continue
        for pool in named:
            details = [detail for detail in check.details if rule.concerns(detail, pool)]
            if details:
                message = f"pool {pool.name!r}: {details[0]}: {rule.consequence}"
                found.setdefault((rule.status, rule.reason), VolumeTrouble(rule.status, rule.reason, message))
    return list(found.values())
