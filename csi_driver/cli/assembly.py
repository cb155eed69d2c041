"""The driver's real parts, put together: the only place that chooses them."""

import os
import socket
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from csi_driver.ceph.cluster import RadosClusters, Timeouts
from csi_driver.cli import observation
from csi_driver.cli.allocator import memory_rounds
from csi_driver.config import ClustersFile, ServeConfig
from csi_driver.host.api import Machine
from csi_driver.host.filesystems import LocalFilesystems
from csi_driver.host.fuse import FuseAttacher
from csi_driver.host.krbd import KrbdAttacher
from csi_driver.host.luks import LocalLuks
from csi_driver.host.mounts import LocalMounts
from csi_driver.host.nbd import NbdAttacher
from csi_driver.host.pod_limits import CgroupLimits
from csi_driver.journal.layout import VOLUMES
from csi_driver.journal.makers import Makers
from csi_driver.journal.nodes import NodeRecord
from csi_driver.kms.entries import KmsFile
from csi_driver.locks import KeyedLocks
from csi_driver.mapping_file import read_cluster_mapping
from csi_driver.operations.capacity import DEFAULT_OBJECT_BYTES, Capacity, room
from csi_driver.operations.changed_blocks import ChangedBlocks
from csi_driver.operations.creation import VolumeCreation
from csi_driver.operations.crush_location import CrushLocation
from csi_driver.operations.deletion import VolumeDeletion
from csi_driver.operations.expansion import VolumeExpansion
from csi_driver.operations.flatten_course import FlattenSettings
from csi_driver.operations.flattener import Flattener
from csi_driver.operations.group_deletion import GroupDeletion
from csi_driver.operations.group_lookup import GroupLookup
from csi_driver.operations.groups import GroupCreation
from csi_driver.operations.health_listing import HealthListing
from csi_driver.operations.listing import Listing
from csi_driver.operations.lookup import VolumeLookup
from csi_driver.operations.making import Behind
from csi_driver.operations.modification import VolumeModification
from csi_driver.operations.node import NodeOperations
from csi_driver.operations.nodes import NodeRegistration, Nodes, OwnPools, RegisteredNodes
from csi_driver.operations.pool_usage import PoolUsages
from csi_driver.operations.publication import VolumePublication
from csi_driver.operations.purge import Purger
from csi_driver.operations.readiness import Readiness
from csi_driver.operations.resumption import Resumption
from csi_driver.operations.site import PoolKey, Sites
from csi_driver.operations.snapshot_deletion import SnapshotDeletion
from csi_driver.operations.snapshots import SnapshotCreation, Soon
from csi_driver.operations.volume_health import VolumeHealth
from csi_driver.operations.volume_keys import VolumeKeys
from csi_driver.orchestrator.kubernetes_events import KubernetesEvents
from csi_driver.orchestrator.kubernetes_nodes import KubernetesNodes
from csi_driver.orchestrator.kubernetes_secrets import read_secret
from csi_driver.pb import csi_pb2_grpc
from csi_driver.rpc.controller import ControllerService, Operations
from csi_driver.rpc.gate import Gates
from csi_driver.rpc.group_controller import GroupControllerService, GroupOperations
from csi_driver.rpc.identity import Identity, IdentityService
from csi_driver.rpc.listing import OwnCredentials
from csi_driver.rpc.node import KnownClusters, NodeInfo, NodeService
from csi_driver.rpc.server import Registration, Server
from csi_driver.rpc.snapshot_metadata import SnapshotMetadataService
from csi_driver.rpc.watchdog import Watchdog

if TYPE_CHECKING:
    from csi_driver.observing.metrics import State

log = structlog.get_logger(__name__)

RUN_DIRECTORY = Path("/run/rbd-csi")
_HEALTH_TIMEOUTS = Timeouts(operation_s=5, connect_s=3)
_REGISTRATION_S = 5.0
"""How long NodeGetInfo waits for this node to be known: whoever has its answer may publish to it."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Driver:
    """One process of the driver."""

    def __init__(self, config: ServeConfig, clusters_file: ClustersFile) -> None:
        self._config = config
        self._clusters_file = clusters_file
        self._gates = Gates()
        self._clusters = RadosClusters(clusters_file.entries, _timeouts(config.timeout_s))
        # Of its own, and soon tired: that a cluster does not answer is what health has to say in time.
        health_clusters = RadosClusters(clusters_file.entries, _HEALTH_TIMEOUTS)
        self._locks = KeyedLocks()
        self._makers = Makers(_identity(config), config.instance)
        self._sites = Sites(self._clusters, self._makers, config.instance)
        self._health_sites = Sites(health_clusters, self._makers, config.instance)
        self._purger = Purger(self._sites, self._locks, self._gates.await_quiet)
        self._flattener = Flattener(self._sites, self._purger.look_at, _flatten_settings(config))
        self._sites.on_first_entry = self._look_at
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            self._sites.tell = KubernetesEvents(self._config.driver_name).tell
        record = NodeRecord(config.node_id, config.max_volumes_per_node, config.node_topology)
        self._registration = NodeRegistration(self._sites, clusters_file.own_ids, record)
        self._readiness = Readiness(lambda: tuple(clusters_file.entries()), self._clusters.check)
        self._at_end: list[Callable[[], None]] = []
        self._mapping = read_cluster_mapping(config.cluster_mapping_file)
        self._keys = VolumeKeys(KmsFile(config.kms_file, read_secret), self._mapping.other_names)
        self._sites.keys = self._keys
        self._pool_usages = PoolUsages(health_clusters, clusters_file.own_ids)
        self._node = self._node_operations() if config.node else None
        self._rounds = [Watchdog(self._gates.calls, config.timeout_s).rounds, self._readiness.rounds, memory_rounds()]
        if config.controller:
            self._rounds.append(Resumption(self._sites, clusters_file.own_ids, self._look_at).rounds)
        if self._node:
            self._rounds += [self._registration.rounds, self._node.healing.rounds]
        if config.metrics_address:
            self._rounds.append(self._pool_usages.rounds)
        self._server = Server(config.socket_path, config.timeout_s, self._services(), self._translation())

    def _translation(self) -> Callable[[str], str] | None:
        """Of handles of clusters that others have taken the place of."""
        if not self._mapping.pairs:
            return None
        return lambda text: self._mapping.translate_text(text, self._clusters_file.entries())

    def _look_at(self, key: PoolKey) -> None:
        """What a predecessor left in a pool."""
        self._purger.look_at(key)
        self._flattener.look_at(key)

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
            held=self._locks.held_seconds,
            backlog=lambda: {**self._purger.backlog(), **self._flattener.backlog()},
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
        self._purger.stop()
        self._flattener.stop()
        self._server.stop(grace_s)
        is_drained = self._gates.drain(grace_s)
        for end in self._at_end:
            end()
        return is_drained

    def _services(self) -> list[Registration]:
        config = self._config
        identity = IdentityService(
            Identity(config.driver_name, version("rbd-csi"), config.has_topology), self._readiness.is_ready
        )
        services: list[Registration] = [lambda server: csi_pb2_grpc.add_IdentityServicer_to_server(identity, server)]
        if config.controller:
            controller = ControllerService(
                self._operations(),
                self._own(),
                self._gates,
                self._clusters.entry,
                config.driver_name if config.has_topology else "",
            )
            services.append(lambda server: csi_pb2_grpc.add_ControllerServicer_to_server(controller, server))
            groups = GroupControllerService(self._group_operations(), self._gates, self._clusters.entry)
            services.append(lambda server: csi_pb2_grpc.add_GroupControllerServicer_to_server(groups, server))
            metadata = SnapshotMetadataService(ChangedBlocks(self._sites), self._gates, self._clusters.entry)
            services.append(lambda server: csi_pb2_grpc.add_SnapshotMetadataServicer_to_server(metadata, server))
        if self._node:
            info = NodeInfo(
                config.node_id,
                config.max_volumes_per_node,
                config.node_topology,
                lambda: self._registration.await_tried(_REGISTRATION_S),
                self._topology_of_labels,
            )
            node = NodeService(
                self._node,
                info,
                self._gates,
                KnownClusters(self._clusters.entry, self._readiness.troubles),
            )
            services.append(lambda server: csi_pb2_grpc.add_NodeServicer_to_server(node, server))
        return services

    def _topology_of_labels(self) -> Mapping[str, str]:
        labels = self._config.node_topology_labels
        return KubernetesNodes(self._config.driver_name).topology(self._config.node_id, labels) if labels else {}

    def _labels(self) -> Mapping[str, str]:
        is_pod = os.environ.get("KUBERNETES_SERVICE_HOST")
        return KubernetesNodes(self._config.driver_name).labels(self._config.node_id) if is_pod else {}

    def _node_operations(self) -> NodeOperations:
        run = _run_directory(self._config)
        place, limits = CrushLocation(self._config.crush_location, self._labels), CgroupLimits()
        krbd = KrbdAttacher(run, crush_location=place.by, limits=limits)
        machine = Machine(
            attachers=(krbd, NbdAttacher(run), FuseAttacher(run)),
            mounts=LocalMounts(),
            filesystems=LocalFilesystems(),
            luks=LocalLuks(),
            limits=limits,
            boot_id=BOOT_ID.read_text().strip(),
        )
        # Locks of its own: staging a volume and growing it in the controller are no hindrance to each other.
        return NodeOperations(machine, VolumeLookup(self._sites), KeyedLocks(), self._keys)

    def _own(self) -> OwnCredentials | None:
        """What needs credentials of the driver's own: offered when the clusters file names them for every cluster."""
        without = [one.cluster_id for one in self._clusters_file.entries().values() if one.credentials is None]
        if without:
            log.warning(
                "listing, capacity and publishing are not offered: the clusters file names no credentials for some clusters",
                clusters=",".join(without),
            )
            return None
        listing = Listing(self._sites, self._clusters_file.own_ids)
        directory = VOLUMES.directory(self._config.instance)
        capacity = Capacity(self._clusters, self._clusters_file.own_ids, directory)
        health = HealthListing(Listing(self._health_sites, self._clusters_file.own_ids))
        pools = OwnPools(self._sites, self._clusters_file.own_ids)
        publication = VolumePublication(
            self._sites, self._locks, self._nodes(pools), pools, fence_gone=self._config.fences_gone_nodes
        )
        return OwnCredentials(listing, capacity, health, publication, self._clusters_file.own_ids)

    def _nodes(self, pools: OwnPools) -> Nodes:
        """Inside a Kubernetes cluster its API knows them, elsewhere they make themselves known."""
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            return KubernetesNodes(self._config.driver_name)
        if self._config.fences_gone_nodes:
            log.warning("--fence-gone-nodes has no effect outside Kubernetes: nobody tells there that a node is gone")
        return RegisteredNodes(pools)

    def _group_operations(self) -> GroupOperations:
        return GroupOperations(
            GroupCreation(self._sites, self._locks, self._purger.look_at),
            GroupDeletion(self._sites, self._locks, self._purger.look_at),
            GroupLookup(self._sites),
        )

    def _operations(self) -> Operations:
        return Operations(
            creation=VolumeCreation(
                self._sites, self._locks, Behind(self._purger.look_at, self._flattener, self._keys)
            ),
            deletion=VolumeDeletion(self._sites, self._locks, self._purger.look_at),
            expansion=VolumeExpansion(self._sites, self._locks),
            modification=VolumeModification(self._sites, self._locks, self._flattener),
            lookup=VolumeLookup(self._sites),
            snapshot_creation=SnapshotCreation(
                self._sites, self._locks, Soon(self._purger.look_at, self._flattener.look_at)
            ),
            snapshot_deletion=SnapshotDeletion(
                self._sites, self._locks, self._purger.look_at, self._purger.forget_soon
            ),
            health=VolumeHealth(self._health_sites),
        )


def _flatten_settings(config: ServeConfig) -> FlattenSettings:
    return FlattenSettings(config.flatten_at_once, config.flatten_rate_mib, config.flatten_rate_in_use_mib)


def _run_directory(config: ServeConfig) -> Path:
    """Where the node's user-space daemons keep their sockets and pids: on the host, the same after a restart."""
    return RUN_DIRECTORY / config.driver_name


def _identity(config: ServeConfig) -> str:
    """What survives a restart and only one living process has: the endpoint's lock sees to the last."""
    return f"{config.node_id}@{socket.gethostname()}{config.socket_path}"


def _timeouts(timeout_s: float) -> Timeouts:
    """A call makes several operations: each may take only a part of its time."""
    return Timeouts(operation_s=max(2, min(15, int(timeout_s / 2))), connect_s=max(1, min(5, int(timeout_s / 3))))
