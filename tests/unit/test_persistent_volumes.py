"""What Kubernetes' objects claim, read from a file and from its API."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from kubernetes import client

from csi_driver.claims import Claims, GroupClaim, MemberClaim, SnapshotClaim, VolumeClaim
from csi_driver.errors import AccessDenied, InvalidRequest
from csi_driver.ids import Handle
from csi_driver.orchestrator.persistent_volumes import claims_of, parse_objects, read_objects
from csi_driver.pb import csi_pb2 as pb
from tests.controller.kubernetes_objects import DRIVER, group_content, persistent_volume, snapshot_content
from tests.kubernetes_api import ApiServer

VOLUME = Handle("dev", 1, "50d53503-9da1-11ed-847e-bacf8f2f1297")
SNAPSHOT = Handle("dev", 1, "60d53503-9da1-11ed-847e-bacf8f2f1297")
GROUP = Handle("dev", 1, "70d53503-9da1-11ed-847e-bacf8f2f1297")
_MADE = pb.Volume(volume_id=str(VOLUME), volume_context={"imageName": f"x-{VOLUME.uuid}", "journalPool": "names"})
_GROUP = pb.VolumeGroupSnapshot(
    group_snapshot_id=str(GROUP), snapshots=[pb.Snapshot(snapshot_id=str(SNAPSHOT), source_volume_id=str(VOLUME))]
)
_SEALED = {"encryptionKMSID": "sealed"}
OBJECTS = [
    persistent_volume("pvc-1", _MADE),
    persistent_volume("pvc-2", _MADE, driver="another.driver"),
    persistent_volume("static", pb.Volume(volume_id="an-image", volume_context={"staticVolume": "true"})),
    {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "local"},
        "spec": {"hostPath": {"path": "/"}},
    },
    persistent_volume("sealed", pb.Volume(volume_id=str(VOLUME), volume_context={"encrypted": "true", **_SEALED})),
    persistent_volume("encrypted", pb.Volume(volume_id=str(VOLUME), volume_context={"encrypted": "true"})),
    snapshot_content("99", pb.Snapshot(snapshot_id=str(SNAPSHOT), source_volume_id=str(VOLUME))),
    group_content("100", _GROUP),
    group_content("101", _GROUP, members="volumeSnapshotHandlePairList"),
]
EXPECTED = Claims(
    (
        VolumeClaim(VOLUME, "pvc-1", f"x-{VOLUME.uuid}", "shop", "names"),
        VolumeClaim(VOLUME, "sealed", owner="shop", kms_id="sealed"),
        VolumeClaim(VOLUME, "encrypted", owner="shop", kms_id="default"),
    ),
    (SnapshotClaim(SNAPSHOT, "snapshot-99", VOLUME),),
    tuple(GroupClaim(GROUP, f"groupsnapshot-{uid}", (MemberClaim(VOLUME, SNAPSHOT),)) for uid in ("100", "101")),
)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"kind": "List", "items": OBJECTS}),
        yaml.safe_dump({"kind": "List", "items": OBJECTS}),
        yaml.safe_dump_all(OBJECTS),
    ],
    ids=["json", "yaml", "documents"],
)
def test_a_file_tells_this_drivers_volumes_and_snapshots(text: str) -> None:
    assert claims_of(parse_objects(text), DRIVER, lambda handle: handle) == EXPECTED


@pytest.mark.parametrize("text", ["{", "a text", "[1, 2]", '{"items": []}', '{"kind": "List", "items": [3]}'])
def test_a_file_that_holds_something_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_objects(text)


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


def serve(api: ApiServer, **versions: str) -> None:
    """The groups of the API, and the version of each that it prefers."""
    groups = [
        {"name": f"{name}.storage.k8s.io", "versions": [one], "preferredVersion": one}
        for name, version in versions.items()
        for one in [{"groupVersion": f"{name}.storage.k8s.io/{version}", "version": version}]
    ]
    api.put("/apis/", {"kind": "APIGroupList", "groups": groups})


def read(api: ApiServer) -> list[Mapping[str, Any]]:
    configuration = client.Configuration()
    configuration.host = f"http://127.0.0.1:{api.port}"
    return read_objects(lambda: client.ApiClient(configuration))


def test_the_api_tells_the_same(api: ApiServer) -> None:
    volumes = [{key: value for key, value in one.items() if key != "kind"} for one in OBJECTS[:4]]
    api.put("/api/v1/persistentvolumes", {"kind": "PersistentVolumeList", "items": volumes})
    serve(api, snapshot="v1", groupsnapshot="v1beta2")
    api.put("/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents", {"kind": "List", "items": OBJECTS[4:5]})
    groups = "/apis/groupsnapshot.storage.k8s.io/v1beta2/volumegroupsnapshotcontents"
    api.put(groups, {"kind": "List", "items": OBJECTS[5:]})
    assert claims_of(read(api), DRIVER, lambda handle: handle) == EXPECTED


def test_a_cluster_without_snapshots_has_none(api: ApiServer) -> None:
    api.put("/api/v1/persistentvolumes", {"kind": "PersistentVolumeList", "items": []})
    serve(api)
    assert read(api) == []


def test_a_refusal_says_what_is_needed(api: ApiServer) -> None:
    api.status = 403
    with pytest.raises(AccessDenied, match="volumesnapshotcontents"):
        read(api)
