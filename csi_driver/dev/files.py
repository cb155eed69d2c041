"""The files that the driver and csi-sanity take, written for one cluster. Each appears whole or not at all.

client.admin is in none of them: what the driver cannot do as its own users, it must not do.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from csi_driver.dev.layout import DevCeph
from csi_driver.dev.users import DATA_POOL, NAMESPACE

_FEATURES = "layering,deep-flatten,exclusive-lock,object-map,fast-diff"

# What ControllerModifyVolume takes; generous, so that nobody waits for it.
_MUTABLE = {
    "maxIops": "100000",
    "burstIops": "200000",
    "bpsPerGiB": "1000000000",
    "flatten": "lazy",
    "trashRetention": "0",
}

# The RPCs that csi-sanity sends secrets with, by whom they act as.
_CONTROLLER_SECRETS = (
    "CreateVolumeSecret",
    "DeleteVolumeSecret",
    "ControllerPublishVolumeSecret",
    "ControllerUnpublishVolumeSecret",
    "ControllerValidateVolumeCapabilitiesSecret",
    "CreateSnapshotSecret",
    "DeleteSnapshotSecret",
    "ControllerExpandVolumeSecret",
    "ControllerModifyVolumeSecret",
    "ListSnapshotsSecret",
    "GetSnapshotSecret",
)
_NODE_SECRETS = ("NodeStageVolumeSecret", "NodePublishVolumeSecret")


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace the file by one that is whole, and readable by whom `mode` says from its first moment."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    fresh.replace(path)


def write_all(ceph: DevCeph) -> None:
    """Write the clusters file, the classes and the secrets beside the cluster's own files."""
    clusters = [_cluster(ceph, "dev", "", "provisioner"), _cluster(ceph, "dev-ns", NAMESPACE, "ns")]
    write_atomically(ceph.config_json, json.dumps(clusters, indent=2) + "\n", mode=0o600)

    dev, second = {"clusterID": "dev", "pool": "rbd"}, {"clusterID": "dev-ns", "pool": "second"}
    features = {"imageFeatures": _FEATURES}
    _write_yaml(ceph.class_yaml, dev | features)
    _write_yaml(ceph.directory / "class-data.yaml", dev | {"dataPool": DATA_POOL} | features)
    _write_yaml(ceph.directory / "class-ns.yaml", second | features)
    _write_yaml(ceph.snapshotclass_yaml, {"clusterID": "dev"})
    _write_yaml(ceph.directory / "snapshotclass-ns.yaml", {"clusterID": "dev-ns"})
    _write_yaml(ceph.mutable_yaml, _MUTABLE)

    _write_yaml(ceph.secrets_yaml, _secrets(ceph, "provisioner", "node"), mode=0o600)
    _write_yaml(ceph.directory / "secrets-ns.yaml", _secrets(ceph, "ns", "ns"), mode=0o600)


def _cluster(ceph: DevCeph, cluster_id: str, namespace: str, user: str) -> dict[str, object]:
    return {
        "clusterID": cluster_id,
        "monitors": [ceph.address],
        "rbd": {"radosNamespace": namespace},
        "credentials": ceph.secrets(user),
    }


def _secrets(ceph: DevCeph, controller: str, node: str) -> dict[str, dict[str, str]]:
    as_controller = {rpc: ceph.secrets(controller) for rpc in _CONTROLLER_SECRETS}
    return as_controller | {rpc: ceph.secrets(node) for rpc in _NODE_SECRETS}


def _write_yaml(path: Path, content: Mapping[str, object], *, mode: int = 0o644) -> None:
    write_atomically(path, yaml.safe_dump(dict(content), sort_keys=False), mode=mode)
