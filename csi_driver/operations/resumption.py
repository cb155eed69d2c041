"""What was left in the pools is gone on with from the start on, before any call comes: wherever the own users may.

A kept volume is due, or a purge was cut short, when nobody calls. Of a cluster without credentials of the driver's own, and
of a pool that their user may not write, the driver learns by the first call that comes with others.
"""

from collections.abc import Callable, Sequence

import structlog

from csi_driver.errors import AccessDenied, DriverError, NotFound
from csi_driver.operations.site import PoolKey, Sites
from csi_driver.rounds import Rounds

log = structlog.get_logger(__name__)

_LOOK_AGAIN_S = 3600.0
"""For what was given up meanwhile, and for clusters that came into the clusters file."""
_TRY_AGAIN_S = 10.0


class Resumption:
    """Has the pools looked at in which this driver has worked. look_at: returns at once."""

    def __init__(
        self, sites: Sites, cluster_ids: Callable[[], Sequence[str]], look_at: Callable[[PoolKey], None]
    ) -> None:
        self._sites = sites
        self._cluster_ids = cluster_ids
        self._look_at = look_at
        self.rounds = Rounds("resumption", self._look)

    def _look(self) -> float:
        looked_at = [self._go_on_in(cluster_id) for cluster_id in self._cluster_ids()]
        return _LOOK_AGAIN_S if all(looked_at) else _TRY_AGAIN_S

    def _go_on_in(self, cluster_id: str) -> bool:
        """Whether the cluster answered."""
        try:
            for key in self._sites.own_pools(cluster_id):
                self._go_on_at(key)
        except DriverError as trouble:
            log.info("what was left in a cluster is not gone on with yet", cluster=cluster_id, reason=str(trouble))
            return False
        return True

    def _go_on_at(self, key: PoolKey) -> None:
        try:
            with self._sites.open(key) as site:
                has_worked_there = site.makers.have_worked_in(site.pool)
            if has_worked_there:
                with self._sites.open(key, as_maker=True):
                    self._look_at(key)
        except (AccessDenied, NotFound) as denied:
            log.debug("a pool is passed by", pool=key.pool, cluster=key.cluster_id, reason=str(denied))
