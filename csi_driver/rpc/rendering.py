"""Volumes and snapshots as answers show them: the same in every RPC."""

from csi_driver.model import Snapshot, SourceKind, Volume
from csi_driver.pb import csi_pb2 as pb
from csi_driver.rpc.topology import accessible_topology


def volume_answer(volume: Volume) -> pb.Volume:
    answer = pb.Volume(
        volume_id=volume.handle,
        capacity_bytes=volume.size_bytes,
        volume_context=volume.context,
        accessible_topology=accessible_topology(volume.topology),
    )
    if volume.source is not None:
        if volume.source.kind is SourceKind.SNAPSHOT:
            answer.content_source.snapshot.snapshot_id = volume.source.handle
        else:
            answer.content_source.volume.volume_id = volume.source.handle
    return answer


def snapshot_answer(snapshot: Snapshot) -> pb.Snapshot:
    answer = pb.Snapshot(
        snapshot_id=snapshot.handle,
        source_volume_id=snapshot.source_handle,
        size_bytes=snapshot.size_bytes,
        ready_to_use=True,
        group_snapshot_id=snapshot.group_handle,
        accessible_topology=accessible_topology(snapshot.topology),
    )
    answer.creation_time.FromNanoseconds(int(snapshot.created_at * 1e9))
    return answer
