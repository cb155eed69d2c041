"""The controller half's real parts, put together: three services, and what goes on behind their answers."""

import os

import grpc
import structlog

from csi_driver.cli.shared_parts import SharedParts
from csi_driver.config import ServeConfig
from csi_driver.journal.layout import VOLUMES
from csi_driver.operations.capacity import Capacity
from csi_driver.operations.changed_blocks import ChangedBlocks
from csi_driver.operations.creation import VolumeCreation
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
from csi_driver.operations.nodes import Nodes, OwnPools, RegisteredNodes
from csi_driver.operations.publication import VolumePublication
from csi_driver.operations.purge import Purger
from csi_driver.operations.resumption import Resumption
from csi_driver.operations.site import PoolKey
from csi_driver.operations.snapshot_deletion import SnapshotDeletion
from csi_driver.operations.snapshots import SnapshotCreation, Soon
from csi_driver.operations.volume_health import VolumeHealth
from csi_driver.orchestrator.kubernetes_nodes import KubernetesNodes
from csi_driver.pb import csi_pb2_grpc
from csi_driver.rpc.controller import ControllerService, Operations
from csi_driver.rpc.group_controller import GroupControllerService, GroupOperations
from csi_driver.rpc.listing import OwnCredentials
from csi_driver.rpc.snapshot_metadata import SnapshotMetadataService

log = structlog.get_logger(__name__)


class ControllerHalf:
    """What a driver does for its cluster. rounds: to be begun with the driver."""

    def __init__(self, parts: SharedParts) -> None:
        self._parts = parts
        self._purger = Purger(parts.sites, parts.locks, parts.gates.await_quiet)
        self._flattener = Flattener(parts.sites, self._purger.look_at, _flatten_settings(parts.config))
        parts.sites.on_first_entry = self._look_at
        self.rounds = (Resumption(parts.sites, parts.clusters_file.own_ids, self._look_at).rounds,)

    def _look_at(self, key: PoolKey) -> None:
        """What a predecessor left in a pool."""
        self._purger.look_at(key)
        self._flattener.look_at(key)

    def backlog(self) -> dict[tuple[str, str, str], int]:
        """As `PoolTasks.backlog`."""
        return {**self._purger.backlog(), **self._flattener.backlog()}

    def stop(self) -> None:
        """What goes on behind the answers ends after what is being done now."""
        self._purger.stop()
        self._flattener.stop()

    def register(self, server: grpc.Server) -> None:
        parts = self._parts
        config, gates, known = parts.config, parts.gates, parts.clusters.entry
        topology_of = config.driver_name if config.has_topology else ""
        controller = ControllerService(self._operations(), self._own(), gates, known, topology_of)
        csi_pb2_grpc.add_ControllerServicer_to_server(controller, server)
        groups = GroupControllerService(self._group_operations(), gates, known)
        csi_pb2_grpc.add_GroupControllerServicer_to_server(groups, server)
        metadata = SnapshotMetadataService(ChangedBlocks(parts.sites), gates, known)
        csi_pb2_grpc.add_SnapshotMetadataServicer_to_server(metadata, server)

    def _own(self) -> OwnCredentials | None:
        """What needs credentials of the driver's own: offered when the clusters file names them for every cluster."""
        parts = self._parts
        own_ids = parts.clusters_file.own_ids
        without = [one.cluster_id for one in parts.clusters_file.entries().values() if one.credentials is None]
        if without:
            log.warning(
                "listing, capacity and publishing are not offered: the clusters file names no credentials for some clusters",
                clusters=",".join(without),
            )
            return None
        listing = Listing(parts.sites, own_ids)
        directory = VOLUMES.directory(parts.config.instance)
        capacity = Capacity(parts.clusters, own_ids, directory)
        health = HealthListing(Listing(parts.health_sites, own_ids))
        pools = OwnPools(parts.sites, own_ids)
        publication = VolumePublication(
            parts.sites, parts.locks, self._nodes(pools), pools, fence_gone=parts.config.fences_gone_nodes
        )
        return OwnCredentials(listing, capacity, health, publication, own_ids)

    def _nodes(self, pools: OwnPools) -> Nodes:
        """Inside a Kubernetes cluster its API knows them, elsewhere they make themselves known."""
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            return KubernetesNodes(self._parts.config.driver_name)
        if self._parts.config.fences_gone_nodes:
            log.warning("--fence-gone-nodes has no effect outside Kubernetes: nobody tells there that a node is gone")
        return RegisteredNodes(pools)

    def _group_operations(self) -> GroupOperations:
        sites, locks, purge_soon = self._parts.sites, self._parts.locks, self._purger.look_at
        return GroupOperations(
            GroupCreation(sites, locks, purge_soon), GroupDeletion(sites, locks, purge_soon), GroupLookup(sites)
        )

    def _operations(self) -> Operations:
        sites, locks, purge_soon = self._parts.sites, self._parts.locks, self._purger.look_at
        return Operations(
            creation=VolumeCreation(sites, locks, Behind(purge_soon, self._flattener, self._parts.keys)),
            deletion=VolumeDeletion(sites, locks, purge_soon),
            expansion=VolumeExpansion(sites, locks),
            modification=VolumeModification(sites, locks, self._flattener),
            lookup=VolumeLookup(sites),
            snapshot_creation=SnapshotCreation(sites, locks, Soon(purge_soon, self._flattener.look_at)),
            snapshot_deletion=SnapshotDeletion(sites, locks, purge_soon, self._purger.forget_soon),
            health=VolumeHealth(self._parts.health_sites),
        )


def _flatten_settings(config: ServeConfig) -> FlattenSettings:
    return FlattenSettings(config.flatten_at_once, config.flatten_rate_mib, config.flatten_rate_in_use_mib)
