"""Requests that the driver accepts, one for each RPC that it offers; bad ones are made of them by changing one thing.

All that name a volume name one that exists. So a bad request that is carried out by mistake leaves a trace: the volume
is gone, has grown, or another one is there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests.client import Driver

GIB = 1 << 30
SINGLE_NODE_WRITER = pb.VolumeCapability.AccessMode.SINGLE_NODE_WRITER

CONTROLLER_RPCS = (
    "CreateVolume",
    "DeleteVolume",
    "ControllerExpandVolume",
    "ControllerModifyVolume",
    "ValidateVolumeCapabilities",
    "CreateSnapshot",
    "DeleteSnapshot",
    "ControllerGetVolumeHealth",
    "ListVolumes",
    "ControllerListVolumeHealth",
    "ControllerGetVolume",
    "ListSnapshots",
    "GetSnapshot",
    "GetCapacity",
    "ControllerPublishVolume",
    "ControllerUnpublishVolume",
)
GROUP_RPCS = ("CreateVolumeGroupSnapshot", "DeleteVolumeGroupSnapshot", "GetVolumeGroupSnapshot")
METADATA_RPCS = ("GetMetadataAllocated", "GetMetadataDelta")
NODE_RPCS = (
    "NodeStageVolume",
    "NodeUnstageVolume",
    "NodePublishVolume",
    "NodeUnpublishVolume",
    "NodeExpandVolume",
    "NodeGetVolumeStats",
    "NodeGetVolumeHealth",
)
RPCS = METADATA_RPCS + GROUP_RPCS + CONTROLLER_RPCS + NODE_RPCS
ARGUMENTLESS_RPCS = (
    "GetPluginInfo",
    "GetPluginCapabilities",
    "Probe",
    "ControllerGetCapabilities",
    "GroupControllerGetCapabilities",
    "NodeGetCapabilities",
    "NodeGetInfo",
    "NodeGetStorageHealth",
)


REQUIRED = {
    "CreateVolume": ("name", "volume_capabilities"),
    "DeleteVolume": ("volume_id",),
    "ControllerExpandVolume": ("volume_id", "capacity_range"),
    "ControllerModifyVolume": ("volume_id", "mutable_parameters"),
    "ValidateVolumeCapabilities": ("volume_id", "volume_capabilities"),
    "CreateSnapshot": ("source_volume_id", "name"),
    "GetMetadataAllocated": ("snapshot_id",),
    "GetMetadataDelta": ("base_snapshot_id", "target_snapshot_id"),
    "CreateVolumeGroupSnapshot": ("name", "source_volume_ids"),
    "DeleteVolumeGroupSnapshot": ("group_snapshot_id",),
    "GetVolumeGroupSnapshot": ("group_snapshot_id",),
    "DeleteSnapshot": ("snapshot_id",),
    "ListVolumes": (),
    "ControllerListVolumeHealth": (),
    "ControllerGetVolume": ("volume_id",),
    "ListSnapshots": (),
    "GetSnapshot": ("snapshot_id",),
    "GetCapacity": (),
    "ControllerPublishVolume": ("volume_id", "node_id", "volume_capability"),
    "ControllerUnpublishVolume": ("volume_id",),
    "NodeStageVolume": ("volume_id", "staging_target_path", "volume_capability"),
    "NodeUnstageVolume": ("volume_id", "staging_target_path"),
    "NodePublishVolume": ("volume_id", "target_path", "volume_capability"),
    "NodeUnpublishVolume": ("volume_id", "target_path"),
    "NodeExpandVolume": ("volume_id", "volume_path"),
    "NodeGetVolumeStats": ("volume_id", "volume_path"),
    "ControllerGetVolumeHealth": ("volume_id",),
    "NodeGetVolumeHealth": ("volume_id",),
}

# Fields that the driver has no use for in these RPCs: it does not look at them.
UNUSED = {
    ("NodePublishVolume", "volume_context"),
    ("NodePublishVolume", "secrets"),
    ("NodeExpandVolume", "staging_target_path"),
    ("NodeExpandVolume", "secrets"),
    ("NodeGetVolumeStats", "staging_target_path"),
}


@dataclass(frozen=True)
class World:
    """A running driver, its Ceph, and a volume of 1 GiB named `real` that no node has."""

    driver: Driver
    ceph: DevCeph
    volume: pb.Volume
    paths: Path

    def with_pool(self, volume_id: str) -> str:
        """The id with the pool of the volume `real` in the place of `{pool}`."""
        return volume_id.replace("{pool}", self.volume.volume_id.split("-")[3])

    def call(self, rpc: str) -> Any:
        """The stub's method of that name."""
        driver = self.driver
        services = (driver.identity, driver.controller, driver.node, driver.groups, driver.metadata)
        found = next(getattr(service, rpc) for service in services if hasattr(service, rpc))
        return (lambda request: list(found(request))) if rpc in METADATA_RPCS else found

    def valid(self, rpc: str) -> Message:
        """A request that would be carried out if nothing were changed."""
        if rpc in NODE_RPCS:
            return self._node(rpc)
        secrets = self.ceph.secrets("provisioner")
        volume_id = self.volume.volume_id
        requests: dict[str, Message] = {
            "CreateVolume": create_volume("bad", self.ceph),
            "DeleteVolume": pb.DeleteVolumeRequest(volume_id=volume_id, secrets=secrets),
            "ControllerExpandVolume": pb.ControllerExpandVolumeRequest(
                volume_id=volume_id,
                capacity_range=pb.CapacityRange(required_bytes=2 * GIB),
                secrets=secrets,
                volume_capability=mounted(),
            ),
            "ControllerModifyVolume": pb.ControllerModifyVolumeRequest(
                volume_id=volume_id, mutable_parameters={"maxIops": "5000"}, secrets=secrets
            ),
            "GetMetadataAllocated": pb.GetMetadataAllocatedRequest(snapshot_id=volume_id, secrets=secrets),
            "GetMetadataDelta": pb.GetMetadataDeltaRequest(
                base_snapshot_id=volume_id, target_snapshot_id=volume_id, secrets=secrets
            ),
            "CreateVolumeGroupSnapshot": pb.CreateVolumeGroupSnapshotRequest(
                name="bad", source_volume_ids=[volume_id], secrets=secrets, parameters={"clusterID": "dev"}
            ),
            # A volume's handle: what would be deleted by mistake is there.
            "DeleteVolumeGroupSnapshot": pb.DeleteVolumeGroupSnapshotRequest(
                group_snapshot_id=volume_id, secrets=secrets
            ),
            "GetVolumeGroupSnapshot": pb.GetVolumeGroupSnapshotRequest(group_snapshot_id=volume_id, secrets=secrets),
            "CreateSnapshot": pb.CreateSnapshotRequest(
                name="bad", source_volume_id=volume_id, secrets=secrets, parameters={"clusterID": "dev"}
            ),
            # A volume's handle: what would be deleted by mistake is there.
            "DeleteSnapshot": pb.DeleteSnapshotRequest(snapshot_id=volume_id, secrets=secrets),
            "ControllerPublishVolume": pb.ControllerPublishVolumeRequest(
                volume_id=volume_id,
                node_id="node-1",
                volume_capability=mounted(),
                secrets=secrets,
                volume_context=dict(self.volume.volume_context),
            ),
            "ControllerUnpublishVolume": pb.ControllerUnpublishVolumeRequest(volume_id=volume_id, secrets=secrets),
            "ListVolumes": pb.ListVolumesRequest(max_entries=2),
            "ControllerListVolumeHealth": pb.ControllerListVolumeHealthRequest(max_entries=2, secrets=secrets),
            "ControllerGetVolume": pb.ControllerGetVolumeRequest(volume_id=volume_id),
            "ListSnapshots": pb.ListSnapshotsRequest(max_entries=2, snapshot_id=volume_id, secrets=secrets),
            "GetSnapshot": pb.GetSnapshotRequest(snapshot_id=volume_id, secrets=secrets),
            "GetCapacity": pb.GetCapacityRequest(
                volume_capabilities=[mounted()], parameters={"clusterID": "dev", "pool": "rbd"}
            ),
            "ValidateVolumeCapabilities": pb.ValidateVolumeCapabilitiesRequest(
                volume_id=volume_id, volume_capabilities=[mounted()], secrets=secrets
            ),
            "ControllerGetVolumeHealth": pb.ControllerGetVolumeHealthRequest(volume_id=volume_id, secrets=secrets),
        }
        return requests[rpc]

    def _node(self, rpc: str) -> Message:
        volume_id, secrets = self.volume.volume_id, self.ceph.secrets("node")
        context = dict(self.volume.volume_context)
        staging, target = str(self.paths / "staging"), str(self.paths / "target")
        requests: dict[str, Message] = {
            "NodeStageVolume": pb.NodeStageVolumeRequest(
                volume_id=volume_id,
                staging_target_path=staging,
                volume_capability=mounted(),
                secrets=secrets,
                volume_context=context,
            ),
            "NodePublishVolume": pb.NodePublishVolumeRequest(
                volume_id=volume_id,
                staging_target_path=staging,
                target_path=target,
                volume_capability=mounted(),
                secrets=secrets,
                volume_context=context,
            ),
            "NodeUnstageVolume": pb.NodeUnstageVolumeRequest(volume_id=volume_id, staging_target_path=staging),
            "NodeUnpublishVolume": pb.NodeUnpublishVolumeRequest(volume_id=volume_id, target_path=target),
            "NodeGetVolumeStats": pb.NodeGetVolumeStatsRequest(volume_id=volume_id, volume_path=target),
            "NodeExpandVolume": pb.NodeExpandVolumeRequest(
                volume_id=volume_id, volume_path=target, volume_capability=mounted(), secrets=secrets
            ),
            "NodeGetVolumeHealth": pb.NodeGetVolumeHealthRequest(
                volume_id=volume_id, staging_target_path=staging, volume_publish_path=target
            ),
        }
        return requests[rpc]


def create_volume(name: str, ceph: DevCeph) -> pb.CreateVolumeRequest:
    return pb.CreateVolumeRequest(
        name=name,
        capacity_range=pb.CapacityRange(required_bytes=GIB),
        volume_capabilities=[mounted()],
        parameters={"clusterID": "dev", "pool": "rbd"},
        secrets=ceph.secrets("provisioner"),
    )


def mounted(fs_type: str = "ext4", mode: int = SINGLE_NODE_WRITER) -> pb.VolumeCapability:
    """A file system, for one node unless said otherwise."""
    capability = pb.VolumeCapability(mount=pb.VolumeCapability.MountVolume(fs_type=fs_type))
    capability.access_mode.mode = mode  # type: ignore[assignment]
    return capability


def block(mode: int = SINGLE_NODE_WRITER) -> pb.VolumeCapability:
    """A block device, for one node unless said otherwise."""
    capability = pb.VolumeCapability(block=pb.VolumeCapability.BlockVolume())
    capability.access_mode.mode = mode  # type: ignore[assignment]
    return capability
