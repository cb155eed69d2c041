"""The node half's real parts, put together."""

import os
from collections.abc import Mapping
from pathlib import Path

import grpc

from csi_driver.cli.shared_parts import SharedParts
from csi_driver.config import ServeConfig
from csi_driver.host.api import Machine
from csi_driver.host.filesystems import LocalFilesystems
from csi_driver.host.fuse import FuseAttacher
from csi_driver.host.krbd import KrbdAttacher
from csi_driver.host.luks import LocalLuks
from csi_driver.host.mounts import LocalMounts
from csi_driver.host.nbd import NbdAttacher
from csi_driver.host.pod_limits import CgroupLimits
from csi_driver.journal.nodes import NodeRecord
from csi_driver.locks import KeyedLocks
from csi_driver.operations.crush_location import CrushLocation
from csi_driver.operations.lookup import VolumeLookup
from csi_driver.operations.node import NodeOperations
from csi_driver.operations.nodes import NodeRegistration
from csi_driver.orchestrator.kubernetes_nodes import KubernetesNodes
from csi_driver.pb import csi_pb2_grpc
from csi_driver.rpc.node import KnownClusters, NodeInfo, NodeService

RUN_DIRECTORY = Path("/run/rbd-csi")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_REGISTRATION_S = 5.0
"""How long NodeGetInfo waits for this node to be known: whoever has its answer may publish to it."""


class NodeHalf:
    """What a driver does on its node. rounds: to be begun with the driver."""

    def __init__(self, parts: SharedParts) -> None:
        self._parts = parts
        config = parts.config
        record = NodeRecord(config.node_id, config.max_volumes_per_node, config.node_topology)
        self._registration = NodeRegistration(parts.sites, parts.clusters_file.own_ids, record)
        self._node = self._operations()
        self.rounds = (self._registration.rounds, self._node.healing.rounds)

    def register(self, server: grpc.Server) -> None:
        parts, config = self._parts, self._parts.config
        info = NodeInfo(
            config.node_id,
            config.max_volumes_per_node,
            config.node_topology,
            lambda: self._registration.await_tried(_REGISTRATION_S),
            self._topology_of_labels,
        )
        known = KnownClusters(parts.clusters.entry, parts.readiness.troubles)
        csi_pb2_grpc.add_NodeServicer_to_server(NodeService(self._node, info, parts.gates, known), server)

    def _operations(self) -> NodeOperations:
        run = _run_directory(self._parts.config)
        place, limits = CrushLocation(self._parts.config.crush_location, self._labels), CgroupLimits()
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
        return NodeOperations(machine, VolumeLookup(self._parts.sites), KeyedLocks(), self._parts.keys)

    def _topology_of_labels(self) -> Mapping[str, str]:
        config = self._parts.config
        labels = config.node_topology_labels
        return KubernetesNodes(config.driver_name).topology(config.node_id, labels) if labels else {}

    def _labels(self) -> Mapping[str, str]:
        config = self._parts.config
        is_pod = os.environ.get("KUBERNETES_SERVICE_HOST")
        return KubernetesNodes(config.driver_name).labels(config.node_id) if is_pod else {}


def _run_directory(config: ServeConfig) -> Path:
    """Where the node's user-space daemons keep their sockets and pids: on the host, the same after a restart."""
    return RUN_DIRECTORY / config.driver_name
