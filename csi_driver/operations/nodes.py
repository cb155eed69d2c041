"""The nodes: how the controller knows them, and how each makes itself known where no Kubernetes tells of it.

A node plugin writes its record into every pool of every cluster that the cluster's own credentials let it write; pools that
are made later get it within minutes. Whoever knows nodes otherwise (orchestrator/) does so behind the same Protocol.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import structlog

from csi_driver.errors import AccessDenied, DriverError, NotFound
from csi_driver.journal.nodes import NodeClaims, NodeRecord, NodeRegister
from csi_driver.operations.site import PoolKey, Site, Sites
from csi_driver.rounds import Rounds

log = structlog.get_logger(__name__)

_LOOK_AGAIN_S = 300.0
_TRY_AGAIN_S = 5.0


class Nodes(Protocol):
    """Who knows which nodes there are."""

    def find(self, node_id: str) -> NodeRecord | None:
        """Raises ClusterUnavailable."""

    def is_gone(self, node_id: str) -> bool:
        """Whether somebody has said that the node is out of service, and does not run. Raises ClusterUnavailable."""


class OwnPools:
    """The pools of all clusters, as the driver's own users reach them."""

    def __init__(self, sites: Sites, cluster_ids: Callable[[], Sequence[str]]) -> None:
        self._sites = sites
        self._cluster_ids = cluster_ids

    def each(self) -> Iterator[Site]:
        """Those that are denied or gone are left out, when they are opened; their objects may be denied later."""
        for key in self._keys():
            try:
                with self._sites.open(key) as site:
                    yield site
            except (AccessDenied, NotFound) as denied:
                log.debug("a pool is passed by", pool=key.pool, cluster=key.cluster_id, reason=str(denied))

    def _keys(self) -> Iterator[PoolKey]:
        for cluster_id in self._cluster_ids():
            yield from self._sites.own_pools(cluster_id)


class RegisteredNodes:
    """`Nodes` by their own records. Nobody tells of a node here that it is gone."""

    def __init__(self, pools: OwnPools) -> None:
        self._pools = pools

    def find(self, node_id: str) -> NodeRecord | None:
        for site in self._pools.each():
            try:
                if record := NodeRegister(site.pool, site.instance).find(node_id):
                    return record
            except AccessDenied:
                continue
        return None

    def is_gone(self, node_id: str) -> bool:  # noqa: ARG002 - nobody is known to be gone
        return False


def forget_node(pools: OwnPools, node_id: str) -> bool:
    """Its record and its claims, in every pool; whether it was known in one. The caller knows that it has no volume."""
    known = False
    for site in pools.each():
        try:
            known = NodeRegister(site.pool, site.instance).forget(node_id) or known
            NodeClaims(site.pool, site.instance, node_id).forget()
        except AccessDenied:
            continue
    return known


class NodeRegistration:
    """Makes this node known, and keeps it so, on a thread of its own: a hanging cluster delays nothing else."""

    def __init__(self, sites: Sites, cluster_ids: Callable[[], Sequence[str]], record: NodeRecord) -> None:
        self._sites = sites
        self._cluster_ids = cluster_ids
        self._record = record
        self._tried = threading.Event()
        self.rounds = Rounds("node-registration", self._look)

    def await_tried(self, timeout_s: float) -> bool:
        """Until the record was written wherever that is possible now; whether that was in time."""
        return self._tried.wait(timeout_s)

    def register(self) -> bool:
        """Whether every cluster has it in some pool."""
        known = [self._register_in(cluster_id) for cluster_id in self._cluster_ids()]
        return all(known)

    def _look(self) -> float:
        if not self._tried.is_set() and not self._cluster_ids():
            log.info("this node is not registered: the clusters file names no credentials; only Kubernetes can know it")
        is_known = self.register()
        self._tried.set()
        return _LOOK_AGAIN_S if is_known else _TRY_AGAIN_S

    def _register_in(self, cluster_id: str) -> bool:
        try:
            keys = self._sites.own_pools(cluster_id)
        except DriverError as trouble:
            log.warning("this node cannot be registered yet", cluster=cluster_id, reason=str(trouble))
            return False
        known = [self._register_at(key) for key in keys]
        return any(known)

    def _register_at(self, key: PoolKey) -> bool:
        try:
            with self._sites.open(key) as site:
                NodeRegister(site.pool, site.instance).write(self._record)
        except DriverError as trouble:  # no right to write there, or an erasure-coded pool, which takes no keys
            log.debug("this node is not registered in a pool", pool=key.pool, reason=str(trouble))
            return False
        return True
