"""What a user makes: classes, claims, pods and snapshots."""

from collections.abc import Mapping
from typing import Any

from tests.e2e.bed import NAMESPACE, Bed
from tests.e2e.node import BUSYBOX, DRIVER

SECRETS = {
    use: {"name": f"ceph-{user}", "namespace": NAMESPACE}
    for use, user in {
        "provisioner": "provisioner",
        "controller-publish": "provisioner",
        "controller-expand": "provisioner",
        "controller-modify": "provisioner",
        "node-stage": "node",
    }.items()
}
"""Of a class, by what they are for."""


def new_class(bed: Bed, name: str, parameters: Mapping[str, str], **more: Any) -> None:
    given = {"clusterID": "dev", "pool": "rbd", "csi.storage.k8s.io/fstype": "xfs", **parameters}
    for use, secret in SECRETS.items():
        given |= {f"csi.storage.k8s.io/{use}-secret-{key}": value for key, value in secret.items()}
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    bed.kubectl.apply({**kind, "provisioner": DRIVER, "parameters": given, "allowVolumeExpansion": True, **more})


def make_classes(bed: Bed) -> None:
    new_class(bed, "rbd", {})
    snapshotter = {"clusterID": "dev"}
    group_snapshotter = {"clusterID": "dev", "pool": "rbd"}
    for key, value in (("name", "ceph-provisioner"), ("namespace", NAMESPACE)):
        snapshotter[f"csi.storage.k8s.io/snapshotter-secret-{key}"] = value
        group_snapshotter[f"csi.storage.k8s.io/group-snapshotter-secret-{key}"] = value
    bed.kubectl.apply(
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotClass",
            "metadata": {"name": "rbd"},
            "driver": DRIVER,
            "deletionPolicy": "Delete",
            "parameters": snapshotter,
        },
        {
            "apiVersion": "groupsnapshot.storage.k8s.io/v1",
            "kind": "VolumeGroupSnapshotClass",
            "metadata": {"name": "rbd"},
            "driver": DRIVER,
            "deletionPolicy": "Delete",
            "parameters": group_snapshotter,
        },
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "VolumeAttributesClass",
            "metadata": {"name": "slow"},
            "driverName": DRIVER,
            "parameters": {"maxIops": "100"},
        },
    )


def claim_object(
    name: str,
    *,
    mode: str = "ReadWriteOnce",
    size: str = "1Gi",
    labels: Mapping[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    spec = {"storageClassName": "rbd", "accessModes": [mode], "resources": {"requests": {"storage": size}}, **more}
    metadata = {"name": name, "labels": dict(labels or {})}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def snapshot_object(name: str, claim: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    spec = {"volumeSnapshotClassName": "rbd", "source": {"persistentVolumeClaimName": claim}}
    metadata = {"name": name, "labels": dict(labels or {})}
    return {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": metadata, "spec": spec}


def claim(
    bed: Bed,
    name: str,
    *,
    mode: str = "ReadWriteOnce",
    size: str = "1Gi",
    labels: Mapping[str, str] | None = None,
    bound: bool = True,
    **more: Any,
) -> None:
    """bound: returns when it is."""
    bed.kubectl.apply(claim_object(name, mode=mode, size=size, labels=labels, **more))
    if bound:
        bed.kubectl.await_condition(f"pvc/{name}", "jsonpath={.status.phase}=Bound")


def pod(bed: Bed, name: str, volume: Mapping[str, Any], command: str, *, is_block: bool = False) -> None:
    where = (
        {"volumeDevices": [{"name": "v", "devicePath": "/dev/volume"}]}
        if is_block
        else {"volumeMounts": [{"name": "v", "mountPath": "/data"}]}
    )
    container = {"name": "c", "image": BUSYBOX, "imagePullPolicy": "Never", **where}
    container["command"] = ["sh", "-c", f"{command}; exec sleep 1000000"]
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": [{"name": "v", **volume}]}
    bed.kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def of_claim(name: str) -> dict[str, Any]:
    return {"persistentVolumeClaim": {"claimName": name}}


def started(bed: Bed, name: str, volume: Mapping[str, Any], command: str, *, is_block: bool = False) -> None:
    pod(bed, name, volume, command, is_block=is_block)
    bed.kubectl.await_condition(f"pod/{name}", "condition=Ready")


def in_pod(bed: Bed, pod: str, command: str) -> str:
    return bed.kubectl.run("exec", pod, "--", "sh", "-c", command).strip()


def snapshot_source(name: str) -> dict[str, str]:
    return {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name}
