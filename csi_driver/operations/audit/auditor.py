"""An audit of pools: two surveys of each, some seconds apart, and what both find."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from csi_driver.errors import AccessDenied
from csi_driver.operations.audit.findings import Finding
from csi_driver.operations.audit.repair import repair
from csi_driver.operations.audit.rules import findings
from csi_driver.operations.audit.survey import Progress, survey
from csi_driver.operations.site import PoolKey, Sites

SETTLE_S = 5.0
"""Longer than a driver takes from one write of a call to the next, on a cluster that answers."""


@dataclass(frozen=True)
class Found:
    """A finding and where it is."""

    cluster_id: str
    pool: str
    finding: Finding


class Auditor:
    """Looks at pools with the clusters' own credentials."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    def audit(self, key: PoolKey, progress: Progress, settle_s: float = SETTLE_S) -> Iterator[Found]:
        """settle_s: between the two looks. Nothing of a pool that this user may not read.

        Raises PoolMissing, ClusterUnavailable.
        """
        try:
            with self._sites.open(key) as site:
                first = set(findings(survey(site, progress)))
                if first:
                    time.sleep(settle_s)
                    for one in sorted(first & set(findings(survey(site, progress))), key=lambda f: (f.what, f.name)):
                        yield Found(key.cluster_id, site.pool.name, one)
        except AccessDenied:
            return

    def repair(self, found: Found) -> None:
        """Raises DriverError when it cannot be mended just now."""
        with self._sites.open(PoolKey(found.cluster_id, None, found.pool), as_maker=True) as site:
            repair(site, found.finding)
