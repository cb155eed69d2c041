"""What comes from elsewhere or is refused: static volumes, given snapshots, zones, and what is not supported."""

from collections.abc import Iterator

from tests.e2e.bed import Bed
from tests.e2e.node import DRIVER, ZONE
from tests.e2e.objects import SECRETS, claim, in_pod, new_class, of_claim, pod, snapshot_source, started
from tests.e2e.steps import Step

ZONE_KEY = f"topology.{DRIVER}/zone"


def steps() -> Iterator[tuple[str, Step]]:
    """After those of which the volume `data` and the snapshot `before` are."""
    yield "an image of somebody else is a static volume, and outlives it", _static
    yield "a snapshot that is there already is restored", _given_snapshot
    yield "a volume that is made late is in its pod's zone, and the zone's capacity is known", _zones
    yield "inline volumes and file encryption are refused by name", _refusals


def _static(bed: Bed) -> None:
    handle = _handle_of_before(bed)
    source = bed.kubectl.get("pv", bed.kubectl.get("pvc", "data")["spec"]["volumeName"])["spec"]["csi"]["volumeHandle"]
    bed.ceph.rbd("cp", "--no-progress", f"rbd/csi-vol-{source[-36:]}@csi-snap-{handle[-36:]}", "rbd/precious")
    csi = {
        "driver": DRIVER,
        "volumeHandle": "precious",
        "fsType": "xfs",
        "volumeAttributes": {"staticVolume": "true", "clusterID": "dev", "pool": "rbd"},
        "nodeStageSecretRef": SECRETS["node-stage"],
        "controllerPublishSecretRef": SECRETS["controller-publish"],
    }
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Delete",
        "storageClassName": "",
        "csi": csi,
    }
    bed.kubectl.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "precious"}, "spec": spec})
    claim(bed, "precious", storageClassName="", volumeName="precious")
    started(bed, "precious-reader", of_claim("precious"), "true")
    assert in_pod(bed, "precious-reader", "cat /data/greeting") == "hello"
    bed.kubectl.delete("pod/precious-reader")
    bed.kubectl.delete("pvc/precious")
    bed.kubectl.await_that("its object is gone", lambda: "precious" not in bed.kubectl.names("pv"))
    assert "precious" in bed.ceph.rbd("ls", "rbd").split()
    bed.ceph.rbd("rm", "--no-progress", "rbd/precious")


def _handle_of_before(bed: Bed) -> str:
    content = bed.kubectl.get("volumesnapshot", "before")["status"]["boundVolumeSnapshotContentName"]
    handle: str = bed.kubectl.get("volumesnapshotcontent", content)["status"]["snapshotHandle"]
    return handle


def _given_snapshot(bed: Bed) -> None:
    group = {"apiVersion": "snapshot.storage.k8s.io/v1"}
    given = {
        "driver": DRIVER,
        "deletionPolicy": "Retain",
        "volumeSnapshotClassName": "rbd",
        "source": {"snapshotHandle": _handle_of_before(bed)},
        "volumeSnapshotRef": {"name": "given", "namespace": "default"},
    }
    bed.kubectl.apply(
        {**group, "kind": "VolumeSnapshotContent", "metadata": {"name": "given"}, "spec": given},
        {
            **group,
            "kind": "VolumeSnapshot",
            "metadata": {"name": "given"},
            "spec": {"source": {"volumeSnapshotContentName": "given"}},
        },
    )
    bed.kubectl.await_condition("volumesnapshot/given", "jsonpath={.status.readyToUse}=true")
    claim(bed, "of-given", size="2Gi", dataSource=snapshot_source("given"))
    started(bed, "of-given-reader", of_claim("of-given"), "true")
    assert in_pod(bed, "of-given-reader", "cat /data/greeting") == "hello"
    bed.kubectl.delete("pod/of-given-reader")
    bed.kubectl.delete("pvc/of-given", "volumesnapshot/given")
    bed.kubectl.delete("volumesnapshotcontent/given")


def _zones(bed: Bed) -> None:
    pools = f'[{{"poolName": "rbd", "domainSegments": [{{"domainLabel": "zone", "value": "{ZONE}"}}]}}]'
    new_class(bed, "late", {"topologyConstrainedPools": pools}, volumeBindingMode="WaitForFirstConsumer")
    claim(bed, "late", bound=False, storageClassName="late")
    started(bed, "late-user", of_claim("late"), "echo x > /data/x")
    volume = bed.kubectl.get("pv", bed.kubectl.get("pvc", "late")["spec"]["volumeName"])
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": ZONE_KEY, "operator": "In", "values": [ZONE]}]

    def is_known() -> bool:
        found = bed.kubectl.get("csistoragecapacities", "", "--all-namespaces")["items"]
        return any(
            one["storageClassName"] == "late" and one["nodeTopology"]["matchLabels"] == {ZONE_KEY: ZONE}
            for one in found
        )

    bed.kubectl.await_that("the capacity of the zone is known", is_known)
    bed.kubectl.delete("pod/late-user")
    bed.kubectl.delete("pvc/late", "storageclass/late")


def _refusals(bed: Bed) -> None:
    pod(bed, "inline", {"csi": {"driver": DRIVER}}, "true")
    bed.kubectl.await_that("the inline volume is refused", lambda: "Ephemeral" in _told_of(bed, "inline"))
    bed.kubectl.delete("pod/inline")
    new_class(bed, "odd", {"encryptionType": "file"})
    claim(bed, "odd", bound=False, storageClassName="odd")
    bed.kubectl.await_that("the class is refused", lambda: "encryptionType" in _told_of(bed, "odd"))
    bed.kubectl.delete("pvc/odd", "storageclass/odd")


def _told_of(bed: Bed, name: str) -> str:
    events = bed.kubectl.get("events", "", f"--field-selector=involvedObject.name={name}")["items"]
    return " ".join(event["message"] for event in events)
