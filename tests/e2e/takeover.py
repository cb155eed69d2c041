"""Volumes of a ceph-csi deployment, made by hand, are taken over by the chart with that deployment's driver name.

Journal entries, image names, handles, volume attributes and annotations are those that the Go driver and its sidecars write.
"""

import json
import uuid
from typing import Any

from csi_driver.host.commands import run
from tests.deploy.helm import CHART
from tests.e2e.bed import NAMESPACE, Bed, driver_values, is_registered, run_helm
from tests.e2e.emptiness import pool_is_empty
from tests.e2e.node import THEIRS
from tests.e2e.objects import SECRETS, claim, in_pod, of_claim, snapshot_source, started

_RELEASE = "takeover"
_VOLUMES = 3


def take_over(bed: Bed) -> None:
    for number in range(_VOLUMES):
        _plant_volume(bed, number)
    _install(bed)
    for number in range(_VOLUMES):
        started(bed, f"legacy-{number}", of_claim(f"legacy-{number}"), "true")
        assert in_pod(bed, f"legacy-{number}", "cat /data/greeting") == "hello"
    _grow(bed, "legacy-0")
    _snapshot_and_restore(bed)
    bed.kubectl.delete("pod/legacy-copy", *(f"pod/legacy-{number}" for number in range(_VOLUMES)))
    bed.kubectl.delete("volumesnapshot/legacy", "pvc/legacy-copy", *(f"pvc/legacy-{n}" for n in range(_VOLUMES)))
    # The copy's and the snapshot's, too: without the driver nobody would remove them.
    bed.kubectl.await_that("the driver's objects are gone", lambda: not _objects(bed))
    run_helm(bed, "uninstall", _RELEASE, "--wait")
    pool_is_empty(bed.ceph)


def _objects(bed: Bed) -> list[str]:
    """Persistent volumes and snapshots that only this driver can delete."""
    volumes, contents = (bed.kubectl.get(kind)["items"] for kind in ("pv", "volumesnapshotcontents"))
    drivers = {one["metadata"]["name"]: one["spec"].get("csi", one["spec"]).get("driver") for one in volumes + contents}
    return [name for name, driver in drivers.items() if driver == THEIRS]


def _plant_volume(bed: Bed, number: int) -> None:
    """The data is that of a volume that a pod has written: mkfs of the node, files and all."""
    written = f"written-{number}"
    claim(bed, written)
    started(bed, written, of_claim(written), "echo hello > /data/greeting; sync")
    assert in_pod(bed, written, "cat /data/greeting") == "hello"
    volume = bed.kubectl.get("pvc", written)["spec"]["volumeName"]
    source = bed.kubectl.get("pv", volume)["spec"]["csi"]["volumeHandle"]
    bed.kubectl.delete(f"pod/{written}")
    bed.kubectl.await_that("it is detached", lambda: volume not in _attached(bed))
    volume_uuid = str(uuid.uuid4())
    image = f"csi-vol-{volume_uuid}"
    bed.ceph.rbd("cp", "--no-progress", f"rbd/csi-vol-{source[-36:]}", f"rbd/{image}")
    bed.kubectl.delete(f"pvc/{written}")
    name = f"pvc-{volume_uuid}"
    _write_entries(bed, name, volume_uuid, image)
    handle = f"0001-0003-dev-{_pool_id(bed):016x}-{volume_uuid}"
    _make_objects(bed, f"legacy-{number}", name, handle, image)


def _attached(bed: Bed) -> set[str]:
    return {one["spec"]["source"]["persistentVolumeName"] for one in bed.kubectl.get("volumeattachments")["items"]}


def _write_entries(bed: Bed, name: str, volume_uuid: str, image: str) -> None:
    """K and O as the Go driver leaves them, with nothing of this driver's."""
    image_id = json.loads(bed.ceph.rbd("info", "--format", "json", f"rbd/{image}"))["id"]
    _set(bed, "csi.volumes.default", {f"csi.volume.{name}": volume_uuid})
    entry = {"csi.volname": name, "csi.imagename": image, "csi.imageid": image_id, "csi.volume.owner": "default"}
    _set(bed, f"csi.volume.{volume_uuid}", entry)
    for key, value in (("pvc/namespace", "default"), ("pv/name", name)):
        bed.ceph.rbd("image-meta", "set", f"rbd/{image}", f"csi.storage.k8s.io/{key}", value)


def _make_objects(bed: Bed, claim_name: str, name: str, handle: str, image: str) -> None:
    """The persistent volume as the provisioner of a ceph-csi deployment makes it, bound to its claim."""
    attributes = {
        "clusterID": "dev",
        "imageFeatures": "layering",
        "imageFormat": "2",
        "imageName": image,
        "journalPool": "rbd",
        "pool": "rbd",
        "storage.kubernetes.io/csiProvisionerIdentity": f"1700000000000-8081-{THEIRS}",
    }
    csi = {"driver": THEIRS, "fsType": "xfs", "volumeHandle": handle, "volumeAttributes": attributes}
    csi |= {
        "nodeStageSecretRef": SECRETS["node-stage"],
        "controllerExpandSecretRef": SECRETS["controller-expand"],
    }
    deletion = {f"volume.kubernetes.io/provisioner-deletion-secret-{k}": v for k, v in SECRETS["provisioner"].items()}
    metadata = {
        "name": name,
        "annotations": {"pv.kubernetes.io/provisioned-by": THEIRS, **deletion},
        "finalizers": ["external-provisioner.volume.kubernetes.io/finalizer", "kubernetes.io/pv-protection"],
    }
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim_name, "namespace": "default"},
        "csi": csi,
        "persistentVolumeReclaimPolicy": "Delete",
        "storageClassName": "csi-rbd-sc",
    }
    secrets = {
        f"csi.storage.k8s.io/{use}-secret-{key}": value
        for use in ("provisioner", "controller-expand", "node-stage")
        for key, value in SECRETS[use].items()
    }
    parameters = {"clusterID": "dev", "pool": "rbd", "imageFeatures": "layering", "csi.storage.k8s.io/fstype": "xfs"}
    bed.kubectl.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "csi-rbd-sc"},
            "provisioner": THEIRS,
            "parameters": {**parameters, **secrets},
            "allowVolumeExpansion": True,
            "mountOptions": ["discard"],
        },
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec},
    )
    claim(bed, claim_name, storageClassName="csi-rbd-sc", volumeName=name)


def _install(bed: Bed) -> None:
    """A release of its own, so that the bed's driver stays."""
    values = {**driver_values(bed), "driverName": THEIRS, "metrics": {"controllerPort": 9690, "nodePort": 9691}}
    values["topology"] = {"enabled": False}
    file = bed.directory / "takeover.json"
    file.write_text(json.dumps(values))
    run_helm(bed, "install", _RELEASE, str(CHART), "--values", str(file))
    for part in (f"deployment/{_RELEASE}-controller", f"daemonset/{_RELEASE}-node"):
        bed.kubectl.run("rollout", "status", part, f"--namespace={NAMESPACE}", "--timeout=180s")
    bed.kubectl.await_that("the kubelet knows the driver", lambda: is_registered(bed, THEIRS))


def _grow(bed: Bed, name: str) -> None:
    bed.kubectl.run("patch", "pvc", name, "--patch", '{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}')
    bed.kubectl.await_condition(f"pvc/{name}", "jsonpath={.status.capacity.storage}=2Gi")
    assert int(in_pod(bed, name, "df -m /data | tail -n 1 | awk '{print $2}'")) > 1900


def _snapshot_and_restore(bed: Bed) -> None:
    parameters = {"clusterID": "dev"}
    for key, value in SECRETS["provisioner"].items():
        parameters[f"csi.storage.k8s.io/snapshotter-secret-{key}"] = value
    api = "snapshot.storage.k8s.io/v1"
    source = {"persistentVolumeClaimName": "legacy-1"}
    bed.kubectl.apply(
        {
            "apiVersion": api,
            "kind": "VolumeSnapshotClass",
            "metadata": {"name": "csi-rbd-sc"},
            "driver": THEIRS,
            "deletionPolicy": "Delete",
            "parameters": parameters,
        },
        {
            "apiVersion": api,
            "kind": "VolumeSnapshot",
            "metadata": {"name": "legacy"},
            "spec": {"volumeSnapshotClassName": "csi-rbd-sc", "source": source},
        },
    )
    bed.kubectl.await_condition("volumesnapshot/legacy", "jsonpath={.status.readyToUse}=true")
    claim(bed, "legacy-copy", storageClassName="csi-rbd-sc", dataSource=snapshot_source("legacy"))
    started(bed, "legacy-copy", of_claim("legacy-copy"), "true")
    assert in_pod(bed, "legacy-copy", "cat /data/greeting") == "hello"


def _set(bed: Bed, name: str, keys: dict[str, str]) -> None:
    for key, value in keys.items():
        run(("rados", "-c", str(bed.ceph.conf), "-p", "rbd", "setomapval", name, key, value), timeout_s=60)


def _pool_id(bed: Bed) -> int:
    pools = json.loads(bed.ceph.ceph("osd", "lspools", "--format", "json"))
    return next(int(one["poolnum"]) for one in pools if one["poolname"] == "rbd")
