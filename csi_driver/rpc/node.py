"""The Node service: each method parses, calls an operation, and renders."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import grpc

from csi_driver.errors import InvalidRequest
from csi_driver.ids import Handle
from csi_driver.operations.node import NodeOperations
from csi_driver.pb import csi_pb2 as pb
from csi_driver.pb import csi_pb2_grpc
from csi_driver.rpc import node_requests
from csi_driver.rpc.gate import Gates
from csi_driver.rpc.health import storage_health, volume_health

T = TypeVar("T")

_Rpc = pb.NodeServiceCapability.RPC.Type

CAPABILITIES = (
    _Rpc.STAGE_UNSTAGE_VOLUME,
    _Rpc.GET_VOLUME_STATS,
    _Rpc.EXPAND_VOLUME,
    _Rpc.SINGLE_NODE_MULTI_WRITER,
    _Rpc.GET_VOLUME_HEALTH,
    _Rpc.GET_STORAGE_HEALTH,
)


@dataclass(frozen=True)
class NodeInfo:
    """This node as the orchestrator knows it. max_volumes 0: no limit; topology empty: none is configured.

    more_topology: segments that have to be asked for; raises DriverError while they cannot be told.
    await_known: waits, for a time, until the controller can know the node.
    """

    node_id: str
    max_volumes: int = 0
    topology: Mapping[str, str] = field(default_factory=dict)
    await_known: Callable[[], object] = lambda: None
    more_topology: Callable[[], Mapping[str, str]] = dict


@dataclass(frozen=True)
class KnownClusters:
    """known: raises InvalidRequest for a cluster that is not configured · unreachable: why, by cluster id; at once."""

    known: Callable[[str], object]
    unreachable: Callable[[], Mapping[str, str]] = dict


class NodeService(csi_pb2_grpc.NodeServicer):
    """CSI Node. Calls on volumes of one cluster never wait behind those of another."""

    def __init__(self, node: NodeOperations, info: NodeInfo, gates: Gates, clusters: KnownClusters) -> None:
        self._node = node
        self._info = info
        self._gates = gates
        self._clusters = clusters

    def _behind_gate(self, volume_id: str, work: Callable[[], T]) -> T:
        handle = Handle.parse(volume_id)
        try:
            key = f"node/{handle.cluster_id}" if handle and self._clusters.known(handle.cluster_id) else "node"
        except InvalidRequest:
            key = "node"
        return self._gates.run(key, work)

    def NodeStageVolume(
        self, request: pb.NodeStageVolumeRequest, context: grpc.ServicerContext
    ) -> pb.NodeStageVolumeResponse:
        asked = node_requests.stage(request)
        self._behind_gate(request.volume_id, lambda: self._node.stage(asked))
        return pb.NodeStageVolumeResponse()

    def NodeUnstageVolume(
        self, request: pb.NodeUnstageVolumeRequest, context: grpc.ServicerContext
    ) -> pb.NodeUnstageVolumeResponse:
        asked = node_requests.unstage(request)
        self._behind_gate(request.volume_id, lambda: self._node.unstage(asked))
        return pb.NodeUnstageVolumeResponse()

    def NodePublishVolume(
        self, request: pb.NodePublishVolumeRequest, context: grpc.ServicerContext
    ) -> pb.NodePublishVolumeResponse:
        asked = node_requests.publish(request)
        self._behind_gate(request.volume_id, lambda: self._node.publish(*asked))
        return pb.NodePublishVolumeResponse()

    def NodeUnpublishVolume(
        self, request: pb.NodeUnpublishVolumeRequest, context: grpc.ServicerContext
    ) -> pb.NodeUnpublishVolumeResponse:
        asked = node_requests.unpublish(request)
        self._behind_gate(request.volume_id, lambda: self._node.unpublish(*asked))
        return pb.NodeUnpublishVolumeResponse()

    def NodeGetVolumeStats(
        self, request: pb.NodeGetVolumeStatsRequest, context: grpc.ServicerContext
    ) -> pb.NodeGetVolumeStatsResponse:
        asked = node_requests.stats(request)
        usage = self._behind_gate(request.volume_id, lambda: self._node.usage(*asked))
        answer = pb.NodeGetVolumeStatsResponse()
        answer.usage.add(
            unit=pb.VolumeUsage.BYTES,
            total=usage.total_bytes,
            used=usage.used_bytes,
            available=usage.available_bytes,
        )
        if usage.total_inodes:
            answer.usage.add(
                unit=pb.VolumeUsage.INODES,
                total=usage.total_inodes,
                used=usage.used_inodes,
                available=usage.available_inodes,
            )
        return answer

    def NodeGetVolumeHealth(
        self, request: pb.NodeGetVolumeHealthRequest, context: grpc.ServicerContext
    ) -> pb.NodeGetVolumeHealthResponse:
        volume_id, staging_path = node_requests.health(request)
        # A gate of its own: volumes that hang must not keep this from being said.
        troubles = self._gates.run("node/health", lambda: self._node.health(volume_id, staging_path))
        return pb.NodeGetVolumeHealthResponse(volume_health=volume_health(volume_id, troubles))

    def NodeGetStorageHealth(
        self, request: pb.NodeGetStorageHealthRequest, context: grpc.ServicerContext
    ) -> pb.NodeGetStorageHealthResponse:
        return storage_health(self._clusters.unreachable(), self._node.attach_trouble())

    def NodeExpandVolume(
        self, request: pb.NodeExpandVolumeRequest, context: grpc.ServicerContext
    ) -> pb.NodeExpandVolumeResponse:
        asked = node_requests.grow(request)
        size_bytes = self._behind_gate(request.volume_id, lambda: self._node.grow(asked))
        return pb.NodeExpandVolumeResponse(capacity_bytes=size_bytes)

    def NodeGetCapabilities(
        self, request: pb.NodeGetCapabilitiesRequest, context: grpc.ServicerContext
    ) -> pb.NodeGetCapabilitiesResponse:
        answer = pb.NodeGetCapabilitiesResponse()
        for capability in CAPABILITIES:
            answer.capabilities.add().rpc.type = capability
        return answer

    def NodeGetInfo(self, request: pb.NodeGetInfoRequest, context: grpc.ServicerContext) -> pb.NodeGetInfoResponse:
        self._info.await_known()
        answer = pb.NodeGetInfoResponse(node_id=self._info.node_id, max_volumes_per_node=self._info.max_volumes)
        if topology := {**self._info.topology, **self._info.more_topology()}:
            answer.accessible_topology.segments.update(topology)
        return answer
