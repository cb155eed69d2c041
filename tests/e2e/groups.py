"""A group snapshot of two volumes, and what is restored of it."""

from tests.e2e.bed import Bed
from tests.e2e.objects import claim, in_pod, of_claim, snapshot_source, started

_API = "groupsnapshot.storage.k8s.io/v1"


def _members(bed: Bed) -> list[str]:
    found = bed.kubectl.get("volumesnapshots")["items"]
    return [one["metadata"]["name"] for one in found if one.get("status", {}).get("volumeGroupSnapshotName") == "both"]


def snapshot_and_restore(bed: Bed) -> None:
    kubectl = bed.kubectl
    for name in ("east", "west"):
        claim(bed, name, labels={"set": "both"})
        started(bed, f"{name}-writer", of_claim(name), f"echo {name} > /data/who; sync")
        in_pod(bed, f"{name}-writer", "cat /data/who")
    spec = {"volumeGroupSnapshotClassName": "rbd", "source": {"selector": {"matchLabels": {"set": "both"}}}}
    kubectl.apply({"apiVersion": _API, "kind": "VolumeGroupSnapshot", "metadata": {"name": "both"}, "spec": spec})
    kubectl.await_condition("volumegroupsnapshot/both", "jsonpath={.status.readyToUse}=true")
    kubectl.await_that("both have a snapshot", lambda: len(_members(bed)) == 2)
    members = _members(bed)
    restored = set()
    for number, member in enumerate(members):
        kubectl.await_condition(f"volumesnapshot/{member}", "jsonpath={.status.readyToUse}=true")
        name = f"of-group-{number}"
        claim(bed, name, dataSource=snapshot_source(member))
        started(bed, name, of_claim(name), "true")
        restored.add(in_pod(bed, name, "cat /data/who"))
    assert restored == {"east", "west"}
    kubectl.delete("pod/of-group-0", "pod/of-group-1", "pod/east-writer", "pod/west-writer")
    kubectl.delete("volumegroupsnapshot/both")
    kubectl.await_that("its members are gone", lambda: not set(members) & set(kubectl.names("volumesnapshots")))
    kubectl.delete("pvc/of-group-0", "pvc/of-group-1", "pvc/east", "pvc/west")
