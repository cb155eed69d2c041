"""Health as the answers show it: of a volume, and of the storage behind a node."""

from collections.abc import Iterable, Mapping

from csi_driver.model import VolumeTrouble
from csi_driver.pb import csi_pb2 as pb


def volume_health(volume_id: str, troubles: Iterable[VolumeTrouble]) -> pb.VolumeHealth:
    answer = pb.VolumeHealth(volume_id=volume_id)
    for one in troubles:
        status = pb.VolumeHealthErrorType.Value(one.status.value)
        answer.health_statuses.add(status=status, reason=one.reason, message=one.message)
    return answer


def storage_health(unreachable: Mapping[str, str], attach_trouble: str) -> pb.NodeGetStorageHealthResponse:
    """Each pair of status and reason once, whatever the number of clusters (CSI: NodeGetStorageHealth)."""
    answer = pb.NodeGetStorageHealthResponse()
    if unreachable:
        answer.backend_health.add(
            status=pb.STORAGE_UNREACHABLE, reason="ClusterUnreachable", message="; ".join(unreachable.values())
        )
    if attach_trouble:
        answer.backend_health.add(
            status=pb.STORAGE_UNREACHABLE,
            reason="NoAttacher",
            message=f"this node can attach no image: {attach_trouble}",
        )
    return answer
