"""PersistentVolumes and contents of snapshots and groups as `kubectl get -o json` prints them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from csi_driver.pb import csi_pb2 as pb

DRIVER = "rbd.csi.internal"
_NO_MAPPING: Mapping[str, str] = MappingProxyType({})


def persistent_volume(name: str, volume: pb.Volume, driver: str = DRIVER) -> dict[str, Any]:
    attributes = {**volume.volume_context, "storage.kubernetes.io/csiProvisionerIdentity": "1-8081-rbd"}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": driver}},
        "spec": {
            "capacity": {"storage": str(volume.capacity_bytes)},
            "claimRef": {"kind": "PersistentVolumeClaim", "namespace": "shop", "name": f"claim-{name}"},
            "csi": {"driver": driver, "volumeHandle": volume.volume_id, "volumeAttributes": attributes},
        },
    }


def snapshot_content(uid: str, snapshot: pb.Snapshot) -> dict[str, Any]:
    """Of a snapshot that was asked for as `snapshot-<uid>`."""
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": f"snapcontent-{uid}"},
        "spec": {
            "driver": DRIVER,
            "source": {"volumeHandle": snapshot.source_volume_id},
            "volumeSnapshotRef": {"kind": "VolumeSnapshot", "namespace": "shop", "name": "kept", "uid": uid},
        },
        "status": {"snapshotHandle": snapshot.snapshot_id},
    }


def group_content(
    uid: str, group: pb.VolumeGroupSnapshot, *, members: str = "volumeSnapshotInfoList"
) -> dict[str, Any]:
    """Of a group snapshot that was asked for as `groupsnapshot-<uid>`. members: the list's name, as versions have it."""
    pairs = [{"volumeHandle": one.source_volume_id, "snapshotHandle": one.snapshot_id} for one in group.snapshots]
    return {
        "apiVersion": "groupsnapshot.storage.k8s.io/v1",
        "kind": "VolumeGroupSnapshotContent",
        "metadata": {"name": f"groupsnapcontent-{uid}"},
        "spec": {
            "driver": DRIVER,
            "source": {"volumeHandles": [one.source_volume_id for one in group.snapshots]},
            "volumeGroupSnapshotRef": {"kind": "VolumeGroupSnapshot", "namespace": "shop", "name": "kept", "uid": uid},
        },
        "status": {"volumeGroupSnapshotHandle": group.group_snapshot_id, members: pairs},
    }


def write_list(path: Path, objects: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    return path
