"""The driver's real parts, put together: here, and in a file for each half, which is loaded where it runs."""

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from csi_driver import VERSION
from csi_driver.ceph.cluster import RadosClusters, Timeouts
from csi_driver.cli import observation
from csi_driver.cli.allocator import memory_rounds
from csi_driver.cli.shared_parts import SharedParts
from csi_driver.config import ClustersFile, ServeConfig
from csi_driver.journal.makers import Makers
from csi_driver.kms.entries import KmsFile
from csi_driver.locks import KeyedLocks
from csi_driver.mapping_file import read_cluster_mapping
from csi_driver.operations.capacity import DEFAULT_OBJECT_BYTES, room
from csi_driver.operations.pool_usage import PoolUsages
from csi_driver.operations.readiness import Readiness
from csi_driver.operations.site import Sites
from csi_driver.operations.volume_keys import VolumeKeys
from csi_driver.orchestrator.kubernetes_events import KubernetesEvents
from csi_driver.orchestrator.kubernetes_secrets import read_secret
from csi_driver.pb import csi_pb2_grpc
from csi_driver.rpc.gate import Gates
from csi_driver.rpc.identity import Identity, IdentityService
from csi_driver.rpc.server import Registration, Server
from csi_driver.rpc.watchdog import Watchdog

if TYPE_CHECKING:
    from csi_driver.cli.controller_half import ControllerHalf
    from csi_driver.cli.node_half import NodeHalf
    from csi_driver.observing.metrics import State

_HEALTH_TIMEOUTS = Timeouts(operation_s=5, connect_s=3)


class Driver:
    """One process of the driver."""

    def __init__(self, config: ServeConfig, clusters_file: ClustersFile) -> None:
        self._config = config
        self._clusters_file = clusters_file
        self._gates = Gates()
        clusters = RadosClusters(clusters_file.entries, _timeouts(config.timeout_s))
        health_clusters = RadosClusters(clusters_file.entries, _HEALTH_TIMEOUTS)
        makers = Makers(_identity(config), config.instance)
        sites = Sites(clusters, makers, config.instance)
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            sites.tell = KubernetesEvents(config.driver_name).tell
        self._readiness = Readiness(lambda: tuple(clusters_file.entries()), clusters.check)
        self._mapping = read_cluster_mapping(config.cluster_mapping_file)
        sites.keys = VolumeKeys(KmsFile(config.kms_file, read_secret), self._mapping.other_names)
        self._pool_usages = PoolUsages(health_clusters, clusters_file.own_ids)
        self._parts = SharedParts(
            config,
            clusters_file,
            self._gates,
            KeyedLocks(),
            clusters,
            sites,
            Sites(health_clusters, makers, config.instance),
            self._readiness,
            sites.keys,
        )
        self._controller = _controller_half(self._parts) if config.controller else None
        self._node = _node_half(self._parts) if config.node else None
        self._at_end: list[Callable[[], None]] = []
        self._rounds = [Watchdog(self._gates.calls, config.timeout_s).rounds, self._readiness.rounds, memory_rounds()]
        for half in (self._controller, self._node):
            self._rounds += half.rounds if half else ()
        if config.metrics_address:
            self._rounds.append(self._pool_usages.rounds)
        self._server = Server(config.socket_path, config.timeout_s, self._services(), self._translation())

    def _translation(self) -> Callable[[str], str] | None:
        """Of handles of clusters that others have taken the place of."""
        if not self._mapping.pairs:
            return None
        return lambda text: self._mapping.translate_text(text, self._clusters_file.entries())

    def start(self) -> None:
        """Raises ConfigError, DriverError: an address or a file that cannot be opened."""
        self._observe()
        for rounds in self._rounds:
            rounds.start()
        self._server.start()

    def _observe(self) -> None:
        self._at_end += observation.trace(self._config)
        if self._config.metrics_address:
            observation.serve_metrics(self._config.metrics_address, self._state())

    def _state(self) -> "State":
        from csi_driver.observing.metrics import State  # noqa: PLC0415 - with its library only where metrics are served

        return State(
            running=self._gates.inside,
            held=self._parts.locks.held_seconds,
            backlog=self._controller.backlog if self._controller else dict,
            clusters=lambda: (
                dict.fromkeys(self._clusters_file.entries(), True) | dict.fromkeys(self._readiness.troubles(), False)
            ),
            reason=self._readiness.reason,
            pools=self._pool_room,
        )

    def _pool_room(self) -> dict[tuple[str, str], tuple[int, int]]:
        known = self._pool_usages.known().items()
        return {place: (room(usage, DEFAULT_OBJECT_BYTES), usage.stored_bytes) for place, usage in known}

    def stop(self, grace_s: float) -> bool:
        """Whether all calls ended within the grace time."""
        for rounds in self._rounds:
            rounds.stop()
        if self._controller:
            self._controller.stop()
        self._server.stop(grace_s)
        is_drained = self._gates.drain(grace_s)
        for end in self._at_end:
            end()
        return is_drained

    def _services(self) -> list[Registration]:
        config = self._config
        identity = IdentityService(Identity(config.driver_name, VERSION, config.has_topology), self._readiness.is_ready)
        halves = [half.register for half in (self._controller, self._node) if half]
        return [lambda server: csi_pb2_grpc.add_IdentityServicer_to_server(identity, server), *halves]


def _controller_half(parts: SharedParts) -> "ControllerHalf":
    from csi_driver.cli.controller_half import ControllerHalf  # noqa: PLC0415 - not loaded on every node

    return ControllerHalf(parts)


def _node_half(parts: SharedParts) -> "NodeHalf":
    from csi_driver.cli.node_half import NodeHalf  # noqa: PLC0415 - likewise

    return NodeHalf(parts)


def _identity(config: ServeConfig) -> str:
    """What survives a restart and only one living process has: the endpoint's lock sees to the last."""
    return f"{config.node_id}@{socket.gethostname()}{config.socket_path}"


def _timeouts(timeout_s: float) -> Timeouts:
    """A call makes several operations: each may take only a part of its time."""
    return Timeouts(operation_s=max(2, min(15, int(timeout_s / 2))), connect_s=max(1, min(5, int(timeout_s / 3))))
