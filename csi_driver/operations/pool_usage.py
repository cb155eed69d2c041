"""How full the pools are, looked at in the background: what is asked for it has an answer at once, or none yet."""

import threading
from collections.abc import Callable, Iterable

import structlog

from csi_driver.ceph.api import Clusters, PoolUsage
from csi_driver.errors import DriverError
from csi_driver.rounds import Rounds

log = structlog.get_logger(__name__)

_EVERY_S = 60.0

Usages = dict[tuple[str, str], PoolUsage]
"""By cluster id and pool."""


class PoolUsages:
    """RBD's pools, with each cluster's own credentials. A cluster that cannot be asked is left out until it can."""

    def __init__(self, clusters: Clusters, cluster_ids: Callable[[], Iterable[str]], every_s: float = _EVERY_S) -> None:
        self._clusters = clusters
        self._cluster_ids = cluster_ids
        self._every_s = every_s
        self.rounds = Rounds("pool usage", self._look)
        self._guard = threading.Lock()
        self._usages: Usages = {}

    def known(self) -> Usages:
        with self._guard:
            return dict(self._usages)

    def _look(self) -> float:
        usages: Usages = {}
        for cluster_id in self._cluster_ids():
            usages |= self._ask(cluster_id)
        with self._guard:
            self._usages = usages
        return self._every_s

    def _ask(self, cluster_id: str) -> Usages:
        try:
            with self._clusters.connect(cluster_id, None) as cluster:
                usages, of_rbd = cluster.usage(), set(cluster.rbd_pools())
                names = [name for name, pool_id in cluster.pool_ids().items() if pool_id in of_rbd and name in usages]
                return {(cluster_id, name): usages[name] for name in names}
        except DriverError as error:
            log.debug("the pools cannot be looked at", cluster=cluster_id, reason=str(error))
            return {}
