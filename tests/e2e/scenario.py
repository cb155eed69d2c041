"""What a user does: claims, pods, growth, snapshots, copies; everything deleted in the end, and nothing left anywhere."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from csi_driver.dev.inventory import Place, leftovers
from tests.e2e.bed import NAMESPACE, Bed
from tests.e2e.node import BUSYBOX, DRIVER, KUBELET

Step = Callable[[Bed], None]

_SECRETS = {"provisioner": "provisioner", "controller-publish": "provisioner", "controller-expand": "provisioner"} | {
    "controller-modify": "provisioner",
    "node-stage": "node",
}


def steps() -> Iterator[tuple[str, Step]]:
    yield "classes", _classes
    yield "a claim is bound", lambda bed: _claim(bed, "data")
    yield "a pod writes", _pod_writes
    yield "the volume grows while the pod has it", _grow
    yield "a snapshot is ready", _snapshot
    yield "a restored claim has the data", lambda bed: _copy(bed, "restored", _snapshot_source("before"))
    yield (
        "a cloned claim has the data",
        lambda bed: _copy(bed, "cloned", {"kind": "PersistentVolumeClaim", "name": "data"}),
    )
    yield "a block claim is a device in its pod", _block
    yield "a second pod is kept off a ReadWriteOncePod claim", _once_pod
    yield "an ephemeral volume lives and dies with its pod", _ephemeral
    yield "the limits of a volume are changed by its attributes class", _attributes
    yield "the driver's pods are replaced while a pod writes", _replace_driver
    yield "everything is deleted, and nothing is left", _delete_all


def _classes(bed: Bed) -> None:
    secrets = {}
    for use, user in _SECRETS.items():
        secrets[f"csi.storage.k8s.io/{use}-secret-name"] = f"ceph-{user}"
        secrets[f"csi.storage.k8s.io/{use}-secret-namespace"] = NAMESPACE
    storage_class = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "rbd"}}
    parameters = {"clusterID": "dev", "pool": "rbd", "csi.storage.k8s.io/fstype": "xfs", **secrets}
    snapshotter = {"clusterID": "dev"}
    for key, value in (("name", "ceph-provisioner"), ("namespace", NAMESPACE)):
        snapshotter[f"csi.storage.k8s.io/snapshotter-secret-{key}"] = value
    bed.kubectl.apply(
        {**storage_class, "provisioner": DRIVER, "parameters": parameters, "allowVolumeExpansion": True},
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotClass",
            "metadata": {"name": "rbd"},
            "driver": DRIVER,
            "deletionPolicy": "Delete",
            "parameters": snapshotter,
        },
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "VolumeAttributesClass",
            "metadata": {"name": "slow"},
            "driverName": DRIVER,
            "parameters": {"maxIops": "100"},
        },
    )


def _claim(bed: Bed, name: str, *, mode: str = "ReadWriteOnce", size: str = "1Gi", **more: Any) -> None:
    spec = {
        "storageClassName": "rbd",
        "accessModes": [mode],
        "resources": {"requests": {"storage": size}},
        **more,
    }
    bed.kubectl.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec})
    bed.kubectl.await_condition(f"pvc/{name}", "jsonpath={.status.phase}=Bound")


def _pod(bed: Bed, name: str, volume: Mapping[str, Any], command: str, *, is_block: bool = False) -> None:
    where = (
        {"volumeDevices": [{"name": "v", "devicePath": "/dev/volume"}]}
        if is_block
        else {"volumeMounts": [{"name": "v", "mountPath": "/data"}]}
    )
    container = {"name": "c", "image": BUSYBOX, "imagePullPolicy": "Never", **where}
    container["command"] = ["sh", "-c", f"{command}; exec sleep 1000000"]
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": [{"name": "v", **volume}]}
    bed.kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def _of_claim(name: str) -> dict[str, Any]:
    return {"persistentVolumeClaim": {"claimName": name}}


def _started(bed: Bed, name: str, volume: Mapping[str, Any], command: str, *, is_block: bool = False) -> None:
    _pod(bed, name, volume, command, is_block=is_block)
    bed.kubectl.await_condition(f"pod/{name}", "condition=Ready")


def _in_pod(bed: Bed, pod: str, command: str) -> str:
    return bed.kubectl.run("exec", pod, "--", "sh", "-c", command).strip()


def _pod_writes(bed: Bed) -> None:
    _started(bed, "writer", _of_claim("data"), "echo hello > /data/greeting; sync")
    assert _in_pod(bed, "writer", "cat /data/greeting") == "hello"


def _megabytes(bed: Bed, pod: str) -> int:
    return int(_in_pod(bed, pod, "df -m /data | tail -n 1 | awk '{print $2}'"))


def _grow(bed: Bed) -> None:
    before = _megabytes(bed, "writer")
    bed.kubectl.run("patch", "pvc", "data", "--patch", '{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}')
    bed.kubectl.await_condition("pvc/data", "jsonpath={.status.capacity.storage}=2Gi")
    assert _megabytes(bed, "writer") > 1.9 * before


def _snapshot_source(name: str) -> dict[str, str]:
    return {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name}


def _snapshot(bed: Bed) -> None:
    spec = {"volumeSnapshotClassName": "rbd", "source": {"persistentVolumeClaimName": "data"}}
    kind = {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": "before"}}
    bed.kubectl.apply({**kind, "spec": spec})
    bed.kubectl.await_condition("volumesnapshot/before", "jsonpath={.status.readyToUse}=true")


def _copy(bed: Bed, name: str, source: Mapping[str, str]) -> None:
    _claim(bed, name, size="2Gi", dataSource=dict(source))
    _started(bed, f"{name}-reader", _of_claim(name), "true")
    assert _in_pod(bed, f"{name}-reader", "cat /data/greeting") == "hello"


def _block(bed: Bed) -> None:
    _claim(bed, "raw", volumeMode="Block")
    _started(bed, "raw-user", _of_claim("raw"), "echo raw | dd of=/dev/volume conv=fsync", is_block=True)
    assert _in_pod(bed, "raw-user", "head -c 3 /dev/volume") == "raw"


def _once_pod(bed: Bed) -> None:
    _claim(bed, "once", mode="ReadWriteOncePod")
    _started(bed, "first", _of_claim("once"), "true")
    _pod(bed, "second", _of_claim("once"), "true")
    bed.kubectl.await_that("the second pod is refused", lambda: "ReadWriteOncePod" in _why_waiting(bed, "second"))
    bed.kubectl.delete("pod/second", "pod/first")


def _why_waiting(bed: Bed, pod: str) -> str:
    conditions = bed.kubectl.get("pod", pod)["status"].get("conditions", ())
    return " ".join(one.get("message", "") for one in conditions)


def _ephemeral(bed: Bed) -> None:
    template = {
        "spec": {
            "storageClassName": "rbd",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        }
    }
    _started(bed, "shortlived", {"ephemeral": {"volumeClaimTemplate": template}}, "echo x > /data/x")
    bed.kubectl.delete("pod/shortlived")
    bed.kubectl.await_that("its claim is gone", lambda: "shortlived-v" not in bed.kubectl.names("pvc"))


def _attributes(bed: Bed) -> None:
    bed.kubectl.run("patch", "pvc", "data", "--patch", '{"spec": {"volumeAttributesClassName": "slow"}}')
    bed.kubectl.await_condition("pvc/data", "jsonpath={.status.currentVolumeAttributesClassName}=slow")


def _replace_driver(bed: Bed) -> None:
    """The volume's daemon is not the pod's: nobody who writes notices."""
    _in_pod(bed, "writer", "(while echo x >> /data/log; do sync; sleep 0.1; done) > /dev/null 2> /data/error &")
    bed.kubectl.run("rollout", "restart", "daemonset/rbd-csi-node", "deployment/rbd-csi-controller", f"-n={NAMESPACE}")
    for part in ("deployment/rbd-csi-controller", "daemonset/rbd-csi-node"):
        bed.kubectl.run("rollout", "status", part, f"--namespace={NAMESPACE}", "--timeout=180s")
    lines = int(_in_pod(bed, "writer", "wc -l < /data/log"))
    bed.kubectl.await_that("it goes on writing", lambda: int(_in_pod(bed, "writer", "wc -l < /data/log")) > lines + 5)
    assert _in_pod(bed, "writer", "cat /data/error") == ""


def _delete_all(bed: Bed) -> None:
    kubectl = bed.kubectl
    kubectl.run("delete", "pods", "--all", "--wait", "--timeout=180s")
    kubectl.delete("pvc/data")  # before its snapshot and its copies
    kubectl.run("delete", "volumesnapshots,pvc", "--all", "--wait", "--timeout=180s")
    for kind in ("pv", "volumeattachments", "volumesnapshotcontents"):
        kubectl.await_that(f"no {kind}", lambda kind=kind: not kubectl.names(kind))  # type: ignore[misc]
    assert leftovers(bed.ceph, Place("rbd")) == frozenset()
    mounts = Path("/proc/self/mountinfo").read_text()
    assert f"{KUBELET}/plugins/kubernetes.io/csi/{DRIVER}" not in mounts
