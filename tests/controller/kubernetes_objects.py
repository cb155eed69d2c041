"""PersistentVolumes and VolumeSnapshotContents as `kubectl get -o json` prints them, of volumes that the tests made."""

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


def write_list(path: Path, objects: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    return path
