"""The Controller service: each method parses, calls an operation behind its cluster's gate, and renders."""

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from csi_driver.errors import InvalidRequest, NotFound
from csi_driver.ids import Handle
from csi_driver.operations.creation import VolumeCreation
from csi_driver.operations.deletion import VolumeDeletion
from csi_driver.operations.expansion import VolumeExpansion
from csi_driver.operations.lookup import VolumeLookup
from csi_driver.operations.modification import VolumeModification
from csi_driver.operations.snapshot_deletion import SnapshotDeletion
from csi_driver.operations.snapshots import SnapshotCreation
from csi_driver.operations.volume_health import VolumeHealth
from csi_driver.pb import csi_pb2 as pb
from csi_driver.rpc import requests
from csi_driver.rpc.fields import parse_credentials
from csi_driver.rpc.gate import Gates
from csi_driver.rpc.health import volume_health
from csi_driver.rpc.listing import LISTING_CAPABILITIES, OwnCredentials
from csi_driver.rpc.publication import PUBLICATION_CAPABILITIES, PublicationCalls
from csi_driver.rpc.rendering import snapshot_answer, volume_answer

_Rpc = pb.ControllerServiceCapability.RPC.Type

CAPABILITIES = (
    _Rpc.CREATE_DELETE_VOLUME,
    _Rpc.CREATE_DELETE_SNAPSHOT,
    _Rpc.CLONE_VOLUME,
    _Rpc.EXPAND_VOLUME,
    _Rpc.MODIFY_VOLUME,
    _Rpc.SINGLE_NODE_MULTI_WRITER,
)


@dataclass(frozen=True)
class Operations:
    """The operations that the controller calls."""

    creation: VolumeCreation
    deletion: VolumeDeletion
    expansion: VolumeExpansion
    modification: VolumeModification
    lookup: VolumeLookup
    snapshot_creation: SnapshotCreation
    snapshot_deletion: SnapshotDeletion
    health: VolumeHealth


class ControllerService(PublicationCalls):
    """CSI Controller. `known` raises InvalidRequest, with the ids that are known, for a cluster that is not configured."""

    def __init__(
        self,
        operations: Operations,
        own: OwnCredentials | None,
        gates: Gates,
        known: Callable[[str], object],
        topology_of: str = "",
    ) -> None:
        """topology_of: the driver's name, where topology is offered."""
        super().__init__(own, gates, topology_of)
        self._operations = operations
        self._gates = gates
        self._known = known

    def _gate_of(self, volume_id: str) -> str:
        """The gate for calls on this volume: its cluster's."""
        handle = Handle.parse(volume_id)
        if handle is None:
            return ""
        self._known(handle.cluster_id)
        return handle.cluster_id

    def _gate_of_existing(self, volume_id: str) -> str:
        """As `_gate_of`, for calls to which a volume of an unknown cluster is simply not there."""
        try:
            return self._gate_of(volume_id)
        except InvalidRequest as unknown:
            raise NotFound(f"there is no volume {volume_id!r}: {unknown}") from unknown

    def CreateVolume(self, request: pb.CreateVolumeRequest, context: grpc.ServicerContext) -> pb.CreateVolumeResponse:
        spec, credentials = requests.create_volume(request, self._topology_of), parse_credentials(request.secrets)
        self._known(spec.cluster_id)
        volume = self._gates.run(spec.cluster_id, lambda: self._operations.creation.create(spec, credentials))
        return pb.CreateVolumeResponse(volume=volume_answer(volume))

    def DeleteVolume(self, request: pb.DeleteVolumeRequest, context: grpc.ServicerContext) -> pb.DeleteVolumeResponse:
        volume_id, credentials = requests.volume_id(request), parse_credentials(request.secrets)
        self._gates.run(self._gate_of(volume_id), lambda: self._operations.deletion.delete(volume_id, credentials))
        return pb.DeleteVolumeResponse()

    def ControllerExpandVolume(
        self, request: pb.ControllerExpandVolumeRequest, context: grpc.ServicerContext
    ) -> pb.ControllerExpandVolumeResponse:
        asked = requests.expand_volume(request)
        size_bytes = self._gates.run(
            self._gate_of_existing(asked.volume_id),
            lambda: self._operations.expansion.expand(
                asked.volume_id, asked.capacity, asked.size_bytes, asked.credentials
            ),
        )
        # An attacher in user space has to be told of the new size, for block volumes too.
        return pb.ControllerExpandVolumeResponse(capacity_bytes=size_bytes, node_expansion_required=True)

    def ControllerModifyVolume(
        self, request: pb.ControllerModifyVolumeRequest, context: grpc.ServicerContext
    ) -> pb.ControllerModifyVolumeResponse:
        asked = requests.modify_volume(request)
        self._gates.run(
            self._gate_of_existing(asked.volume_id),
            lambda: self._operations.modification.modify(asked.volume_id, asked.change, asked.credentials),
        )
        return pb.ControllerModifyVolumeResponse()

    def ValidateVolumeCapabilities(
        self, request: pb.ValidateVolumeCapabilitiesRequest, context: grpc.ServicerContext
    ) -> pb.ValidateVolumeCapabilitiesResponse:
        volume_id, credentials = requests.volume_id(request), parse_credentials(request.secrets)
        _, unsupported = requests.capabilities_to_confirm(request)
        self._gates.run(self._gate_of_existing(volume_id), lambda: self._operations.lookup.find(volume_id, credentials))
        if unsupported:
            return pb.ValidateVolumeCapabilitiesResponse(message=unsupported)
        confirmed = pb.ValidateVolumeCapabilitiesResponse.Confirmed(
            volume_context=request.volume_context,
            volume_capabilities=request.volume_capabilities,
            parameters=request.parameters,
            mutable_parameters=request.mutable_parameters,
        )
        return pb.ValidateVolumeCapabilitiesResponse(confirmed=confirmed)

    def CreateSnapshot(
        self, request: pb.CreateSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.CreateSnapshotResponse:
        spec, credentials = requests.create_snapshot(request, self._topology_of), parse_credentials(request.secrets)
        made = self._gates.run(
            self._gate_of_existing(spec.source_handle),
            lambda: self._operations.snapshot_creation.create(spec, credentials),
        )
        return pb.CreateSnapshotResponse(snapshot=snapshot_answer(made))

    def DeleteSnapshot(
        self, request: pb.DeleteSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.DeleteSnapshotResponse:
        snapshot_id, credentials = requests.snapshot_id(request), parse_credentials(request.secrets)
        self._gates.run(
            self._gate_of(snapshot_id), lambda: self._operations.snapshot_deletion.delete(snapshot_id, credentials)
        )
        return pb.DeleteSnapshotResponse()

    def ControllerGetVolumeHealth(
        self, request: pb.ControllerGetVolumeHealthRequest, context: grpc.ServicerContext
    ) -> pb.ControllerGetVolumeHealthResponse:
        volume_id, credentials = requests.volume_id(request), parse_credentials(request.secrets)
        # A gate of its own: calls that hang must not keep this from being said.
        troubles = self._gates.run(
            f"health/{self._gate_of_existing(volume_id)}", lambda: self._operations.health.of(volume_id, credentials)
        )
        return pb.ControllerGetVolumeHealthResponse(volume_health=volume_health(volume_id, troubles))

    def ControllerGetCapabilities(
        self, request: pb.ControllerGetCapabilitiesRequest, context: grpc.ServicerContext
    ) -> pb.ControllerGetCapabilitiesResponse:
        answer = pb.ControllerGetCapabilitiesResponse()
        for one in (*CAPABILITIES, *((*LISTING_CAPABILITIES, *PUBLICATION_CAPABILITIES) if self._own else ())):
            answer.capabilities.add().rpc.type = one
        return answer
