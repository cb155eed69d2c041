"""The GroupController service: each method parses, calls an operation behind its cluster's gate, and renders."""

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from csi_driver.errors import InvalidRequest, NotFound
from csi_driver.ids import Handle
from csi_driver.model import GroupSnapshot
from csi_driver.operations.group_deletion import GroupDeletion
from csi_driver.operations.group_lookup import GroupLookup
from csi_driver.operations.groups import GroupCreation
from csi_driver.pb import csi_pb2 as pb
from csi_driver.pb import csi_pb2_grpc
from csi_driver.rpc import group_requests
from csi_driver.rpc.fields import parse_credentials
from csi_driver.rpc.gate import Gates
from csi_driver.rpc.rendering import snapshot_answer

_Rpc = pb.GroupControllerServiceCapability.RPC.Type

CAPABILITIES = (_Rpc.CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT,)


@dataclass(frozen=True)
class GroupOperations:
    """The operations that the group controller calls."""

    creation: GroupCreation
    deletion: GroupDeletion
    lookup: GroupLookup


class GroupControllerService(csi_pb2_grpc.GroupControllerServicer):
    """CSI GroupController. `known` raises InvalidRequest for a cluster that is not configured."""

    def __init__(self, operations: GroupOperations, gates: Gates, known: Callable[[str], object]) -> None:
        self._operations = operations
        self._gates = gates
        self._known = known

    def _gate_of(self, identifier: str) -> str:
        """The gate for calls on this object: its cluster's."""
        handle = Handle.parse(identifier)
        if handle is None:
            return ""
        self._known(handle.cluster_id)
        return handle.cluster_id

    def _gate_of_existing(self, identifier: str) -> str:
        """As `_gate_of`, for calls to which an object of an unknown cluster is simply not there."""
        try:
            return self._gate_of(identifier)
        except InvalidRequest as unknown:
            raise NotFound(f"there is no {identifier!r}: {unknown}") from unknown

    def GroupControllerGetCapabilities(
        self, request: pb.GroupControllerGetCapabilitiesRequest, context: grpc.ServicerContext
    ) -> pb.GroupControllerGetCapabilitiesResponse:
        answer = pb.GroupControllerGetCapabilitiesResponse()
        for one in CAPABILITIES:
            answer.capabilities.add().rpc.type = one
        return answer

    def CreateVolumeGroupSnapshot(
        self, request: pb.CreateVolumeGroupSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.CreateVolumeGroupSnapshotResponse:
        spec, credentials = group_requests.create(request), parse_credentials(request.secrets)
        gate = min(self._gate_of_existing(one) for one in spec.source_handles)
        made = self._gates.run(gate, lambda: self._operations.creation.create(spec, credentials))
        return pb.CreateVolumeGroupSnapshotResponse(group_snapshot=_answer(made))

    def DeleteVolumeGroupSnapshot(
        self, request: pb.DeleteVolumeGroupSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.DeleteVolumeGroupSnapshotResponse:
        group_id, snapshot_ids = group_requests.group(request)
        credentials = parse_credentials(request.secrets)
        self._gates.run(
            self._gate_of(group_id), lambda: self._operations.deletion.delete(group_id, snapshot_ids, credentials)
        )
        return pb.DeleteVolumeGroupSnapshotResponse()

    def GetVolumeGroupSnapshot(
        self, request: pb.GetVolumeGroupSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.GetVolumeGroupSnapshotResponse:
        group_id, snapshot_ids = group_requests.group(request)
        credentials = parse_credentials(request.secrets)
        found = self._gates.run(
            self._gate_of_existing(group_id),
            lambda: self._operations.lookup.find(group_id, snapshot_ids, credentials),
        )
        return pb.GetVolumeGroupSnapshotResponse(group_snapshot=_answer(found))


def _answer(group: GroupSnapshot) -> pb.VolumeGroupSnapshot:
    answer = pb.VolumeGroupSnapshot(
        group_snapshot_id=group.handle,
        snapshots=[snapshot_answer(one) for one in group.snapshots],
        ready_to_use=True,
    )
    answer.creation_time.FromNanoseconds(int(group.created_at * 1e9))
    return answer
