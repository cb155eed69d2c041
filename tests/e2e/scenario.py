"""What a user does: claims, pods, growth, snapshots, copies; everything deleted in the end, and nothing left anywhere."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.e2e import elsewhere, groups, load, takeover, upgrade
from tests.e2e.bed import NAMESPACE, Bed, await_driver
from tests.e2e.emptiness import audit_is_clean, pool_is_empty
from tests.e2e.node import DRIVER, KUBELET
from tests.e2e.objects import claim, in_pod, make_classes, of_claim, pod, snapshot_source, started
from tests.e2e.steps import Step


def smoke() -> Iterator[tuple[str, Step]]:
    """What CI has time for."""
    chosen = ("classes", "a claim", "a pod writes", "the volume grows", "a snapshot", "a restored", "everything")
    return ((name, step) for name, step in steps() if name.startswith(chosen))


def all_steps(tell: Callable[[str], None]) -> Iterator[tuple[str, Step]]:
    yield from steps()
    yield "a hundred claims at once", lambda bed: tell(load.hundred_claims(bed))
    yield "what broke under load was finished", load.faults
    yield "an upgrade and its roll-back under pods that write", lambda bed: upgrade.upgrade_and_roll_back(bed, tell)
    yield "volumes of ceph-csi are taken over", takeover.take_over
    yield "the audit finds nothing", audit_is_clean


def steps() -> Iterator[tuple[str, Step]]:
    yield "classes", make_classes
    yield "a claim is bound", lambda bed: claim(bed, "data")
    yield "a pod writes", _pod_writes
    yield "the volume grows while the pod has it", _grow
    yield "a snapshot is ready", _snapshot
    yield "a restored claim has the data", lambda bed: _copy(bed, "restored", snapshot_source("before"))
    yield (
        "a cloned claim has the data",
        lambda bed: _copy(bed, "cloned", {"kind": "PersistentVolumeClaim", "name": "data"}),
    )
    yield "an expansion that cannot be is taken back for a smaller one", _grow_less
    yield "a block claim is a device in its pod", _block
    yield "a second pod is kept off a ReadWriteOncePod claim", _once_pod
    yield "an ephemeral volume lives and dies with its pod", _ephemeral
    yield "the limits of a volume are changed by its attributes class", _attributes
    yield "a group snapshot of two volumes is restored", groups.snapshot_and_restore
    yield from elsewhere.steps()
    yield "the driver's pods are replaced while a pod writes", _replace_driver
    yield "everything is deleted, and nothing is left", _delete_all


def _pod_writes(bed: Bed) -> None:
    started(bed, "writer", of_claim("data"), "echo hello > /data/greeting; sync")
    assert in_pod(bed, "writer", "cat /data/greeting") == "hello"


def _megabytes(bed: Bed, pod: str) -> int:
    return int(in_pod(bed, pod, "df -m /data | tail -n 1 | awk '{print $2}'"))


def _grow(bed: Bed) -> None:
    before = _megabytes(bed, "writer")
    _ask(bed, "2Gi")
    bed.kubectl.await_condition("pvc/data", "jsonpath={.status.capacity.storage}=2Gi")
    assert _megabytes(bed, "writer") > 1.9 * before


def _ask(bed: Bed, size: str) -> None:
    bed.kubectl.run(
        "patch", "pvc", "data", "--patch", f'{{"spec": {{"resources": {{"requests": {{"storage": "{size}"}}}}}}}}'
    )


def _grow_less(bed: Bed) -> None:
    """Of what no image can have: OUT_OF_RANGE tells the resizer that it is in vain, and the claim may shrink."""
    before = _megabytes(bed, "writer")
    _ask(bed, "2Pi")
    infeasible = "jsonpath={.status.allocatedResourceStatuses.storage}=ControllerResizeInfeasible"
    bed.kubectl.await_condition("pvc/data", infeasible)
    _ask(bed, "3Gi")
    bed.kubectl.await_condition("pvc/data", "jsonpath={.status.capacity.storage}=3Gi")
    assert _megabytes(bed, "writer") > 1.4 * before


def _snapshot(bed: Bed) -> None:
    spec = {"volumeSnapshotClassName": "rbd", "source": {"persistentVolumeClaimName": "data"}}
    kind = {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": "before"}}
    bed.kubectl.apply({**kind, "spec": spec})
    bed.kubectl.await_condition("volumesnapshot/before", "jsonpath={.status.readyToUse}=true")


def _copy(bed: Bed, name: str, source: Mapping[str, str]) -> None:
    claim(bed, name, size="2Gi", dataSource=dict(source))
    started(bed, f"{name}-reader", of_claim(name), "true")
    assert in_pod(bed, f"{name}-reader", "cat /data/greeting") == "hello"


def _block(bed: Bed) -> None:
    claim(bed, "raw", volumeMode="Block")
    started(bed, "raw-user", of_claim("raw"), "echo raw | dd of=/dev/volume conv=fsync", is_block=True)
    assert in_pod(bed, "raw-user", "head -c 3 /dev/volume") == "raw"


def _once_pod(bed: Bed) -> None:
    claim(bed, "once", mode="ReadWriteOncePod")
    started(bed, "first", of_claim("once"), "true")
    pod(bed, "second", of_claim("once"), "true")
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
    started(bed, "shortlived", {"ephemeral": {"volumeClaimTemplate": template}}, "echo x > /data/x")
    bed.kubectl.delete("pod/shortlived")
    bed.kubectl.await_that("its claim is gone", lambda: "shortlived-v" not in bed.kubectl.names("pvc"))


def _attributes(bed: Bed) -> None:
    bed.kubectl.run("patch", "pvc", "data", "--patch", '{"spec": {"volumeAttributesClassName": "slow"}}')
    bed.kubectl.await_condition("pvc/data", "jsonpath={.status.currentVolumeAttributesClassName}=slow")


def _replace_driver(bed: Bed) -> None:
    """The volume's daemon is not the pod's: nobody who writes notices."""
    in_pod(bed, "writer", "(while echo x >> /data/log; do sync; sleep 0.1; done) > /dev/null 2> /data/error &")
    bed.kubectl.run("rollout", "restart", "daemonset/rbd-csi-node", "deployment/rbd-csi-controller", f"-n={NAMESPACE}")
    await_driver(bed)
    lines = int(in_pod(bed, "writer", "wc -l < /data/log"))
    bed.kubectl.await_that("it goes on writing", lambda: int(in_pod(bed, "writer", "wc -l < /data/log")) > lines + 5)
    assert in_pod(bed, "writer", "cat /data/error") == ""


def _delete_all(bed: Bed) -> None:
    kubectl = bed.kubectl
    kubectl.run("delete", "pods", "--all", "--wait", "--timeout=180s")
    kubectl.delete("pvc/data")  # before its snapshot and its copies
    kubectl.run("delete", "volumesnapshots,pvc", "--all", "--wait", "--timeout=180s")
    for kind in ("pv", "volumeattachments", "volumesnapshotcontents"):
        kubectl.await_that(f"no {kind}", lambda kind=kind: not kubectl.names(kind))  # type: ignore[misc]
    pool_is_empty(bed.ceph)
    mounts = Path("/proc/self/mountinfo").read_text()
    assert f"{KUBELET}/plugins/kubernetes.io/csi/{DRIVER}" not in mounts
