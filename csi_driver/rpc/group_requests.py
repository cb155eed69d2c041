"""From CSI requests to values: validation of the group controller's requests, before any lock or I/O."""

from csi_driver.errors import InvalidRequest
from csi_driver.model import GroupSnapshotSpec
from csi_driver.pb import csi_pb2 as pb
from csi_driver.rpc.fields import check_map, check_text, required, required_name
from csi_driver.rpc.parameters import parse_group_class


def create(request: pb.CreateVolumeGroupSnapshotRequest) -> GroupSnapshotSpec:
    name = required_name("name", request.name)
    if not request.source_volume_ids:
        raise InvalidRequest("source_volume_ids is missing; at least one is required")
    sources = [required(f"source_volume_ids[{number}]", one) for number, one in enumerate(request.source_volume_ids)]
    if twice := {one for one in sources if sources.count(one) > 1}:
        raise InvalidRequest(f"source_volume_ids name {', '.join(sorted(twice))} more than once")
    return parse_group_class(name, tuple(sources), check_map("parameters", request.parameters))


def group(
    request: pb.DeleteVolumeGroupSnapshotRequest | pb.GetVolumeGroupSnapshotRequest,
) -> tuple[str, tuple[str, ...]]:
    """The group's id, and those of its members."""
    members = [check_text(f"snapshot_ids[{number}]", one) for number, one in enumerate(request.snapshot_ids)]
    return required("group_snapshot_id", request.group_snapshot_id), tuple(members)
