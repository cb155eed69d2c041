"""Group snapshot calls of the tests; a refusal is a value, not an exception."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import grpc

from csi_driver.pb import csi_pb2 as pb
from tests.client import Refusal, refusal_of
from tests.controller.calls import UNFINISHED, Calls


def try_group(
    calls: Calls, name: str, volumes: Sequence[pb.Volume], parameters: Mapping[str, str] = MappingProxyType({})
) -> pb.VolumeGroupSnapshot | Refusal:
    request = pb.CreateVolumeGroupSnapshotRequest(
        name=name,
        source_volume_ids=[volume.volume_id for volume in volumes],
        secrets=calls.secrets,
        parameters=parameters,
    )
    try:
        return calls.driver.groups.CreateVolumeGroupSnapshot(request, timeout=120).group_snapshot
    except grpc.RpcError as error:
        return refusal_of(error)


def group_until_done(
    calls: Calls, name: str, volumes: Sequence[pb.Volume], parameters: Mapping[str, str] = MappingProxyType({})
) -> pb.VolumeGroupSnapshot:
    while True:
        answer = try_group(calls, name, volumes, parameters)
        if isinstance(answer, pb.VolumeGroupSnapshot):
            return answer
        assert answer.code in UNFINISHED, answer


def get_group(calls: Calls, group_id: str, snapshot_ids: Sequence[str]) -> pb.VolumeGroupSnapshot | Refusal:
    request = pb.GetVolumeGroupSnapshotRequest(
        group_snapshot_id=group_id, snapshot_ids=snapshot_ids, secrets=calls.secrets
    )
    try:
        return calls.driver.groups.GetVolumeGroupSnapshot(request, timeout=120).group_snapshot
    except grpc.RpcError as error:
        return refusal_of(error)


def delete_group(calls: Calls, group_id: str, snapshot_ids: Sequence[str]) -> Refusal | None:
    request = pb.DeleteVolumeGroupSnapshotRequest(
        group_snapshot_id=group_id, snapshot_ids=snapshot_ids, secrets=calls.secrets
    )
    try:
        calls.driver.groups.DeleteVolumeGroupSnapshot(request, timeout=120)
    except grpc.RpcError as error:
        return refusal_of(error)
    return None


def delete_group_until_done(calls: Calls, group: pb.VolumeGroupSnapshot) -> None:
    while answer := delete_group(calls, group.group_snapshot_id, ids_of(group)):
        assert answer.code in UNFINISHED, answer


def ids_of(group: pb.VolumeGroupSnapshot) -> list[str]:
    return [snapshot.snapshot_id for snapshot in group.snapshots]
