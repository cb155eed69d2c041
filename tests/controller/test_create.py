"""CreateVolume of empty volumes, as its callers see it and as it stands in Ceph."""

import json

import grpc
import pytest

from csi_driver.ceph.api import Pool
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests.client import Refusal
from tests.controller.calls import Calls, handle_parts
from tests.rpc.valid_requests import GIB, block, mounted

pytestmark = pytest.mark.usefixtures("clean_pool")

MIB = 1 << 20
Mode = pb.VolumeCapability.AccessMode


def test_a_repeated_create_answers_the_same_volume(calls: Calls) -> None:
    """Same handle, size and context; and one delete ends it."""
    first = calls.create("again", GIB)
    assert calls.create("again", GIB) == first
    assert calls.delete(first.volume_id) is None


def test_the_entry_has_the_layout_of_ceph_csi(calls: Calls, pool: Pool) -> None:
    """Directory key, object, keys and image name are where the Go driver looks for them."""
    volume = calls.create(
        "layout", GIB, parameters={"csi.storage.k8s.io/pvc/namespace": "shop", "csi.storage.k8s.io/pvc/name": "db"}
    )
    _, pool_id, uuid = handle_parts(volume.volume_id)
    assert pool_id == pool.pool_id
    assert pool.objects.read_key("csi.volumes.default", "csi.volume.layout") == uuid
    keys = pool.objects.read(f"csi.volume.{uuid}") or {}
    assert keys["csi.volname"] == "layout"
    assert keys["csi.imagename"] == f"csi-vol-{uuid}"
    assert keys["csi.imageid"] == pool.images.find_id(f"csi-vol-{uuid}")
    assert keys["csi.volume.owner"] == "shop"
    assert keys["state"] == "complete"
    assert pool.images.get_metadata(f"csi-vol-{uuid}") == {
        "csi.storage.k8s.io/pvc/namespace": "shop",
        "csi.storage.k8s.io/pvc/name": "db",
    }
    calls.delete_until_done(volume.volume_id)


def test_the_context_lets_either_driver_stage_the_volume(calls: Calls) -> None:
    volume = calls.create("context", GIB, parameters={"mounter": "fuse", "mkfsOptions": "-m1"})
    _, _, uuid = handle_parts(volume.volume_id)
    assert dict(volume.volume_context) == {
        "clusterID": "dev",
        "pool": "rbd",
        "journalPool": "rbd",
        "imageName": f"csi-vol-{uuid}",
        "mounter": "fuse",
        "mkfsOptions": "-m1",
    }
    calls.delete_until_done(volume.volume_id)


@pytest.mark.parametrize(
    ("required", "limit", "expected"),
    [
        (0, 0, GIB),
        (1, 0, MIB),
        (GIB + 1, 0, GIB + MIB),
        (GIB + 1, GIB + MIB - 1, GIB + 4096),
        (GIB + 4096, GIB + 4096, GIB + 4096),
        (0, 5 * MIB, 5 * MIB),
    ],
)
def test_the_size_is_rounded_within_the_limit(
    calls: Calls, pool: Pool, required: int, limit: int, expected: int
) -> None:
    volume = calls.create("size", required, limit_bytes=limit)
    assert volume.capacity_bytes == expected
    assert pool.images.inspect(volume.volume_context["imageName"]).size_bytes == expected
    calls.delete_until_done(volume.volume_id)


def test_the_image_is_as_the_class_says(calls: Calls, pool: Pool, ceph_dev: DevCeph) -> None:
    volume = calls.create(
        "layout",
        GIB,
        parameters={
            "imageFeatures": "layering,exclusive-lock",
            "dataPool": "data",
            "objectSize": "1048576",
            "stripeUnit": "65536",
            "stripeCount": "4",
            "volumeNamePrefix": "shop-",
        },
    )
    name = volume.volume_context["imageName"]
    assert name == f"shop-{handle_parts(volume.volume_id)[2]}"
    told = json.loads(ceph_dev.rbd("info", "--format", "json", f"rbd/{name}"))
    assert told["object_size"] == 1048576
    assert (told["stripe_unit"], told["stripe_count"]) == (65536, 4)
    assert told["data_pool"] == volume.volume_context["dataPool"] == "data"
    assert {"layering", "exclusive-lock"} < set(told["features"])
    assert "object-map" not in told["features"]
    calls.delete_until_done(volume.volume_id)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size_bytes": 2 * GIB}, "bytes"),
        ({"parameters": {"imageFeatures": "layering"}}, "imageFeatures"),
        ({"parameters": {"mounter": "fuse"}}, "mounter"),
        ({"parameters": {"volumeNamePrefix": "other-"}}, "imagePrefix"),
        ({"capability": mounted("xfs")}, "capabilities"),
        ({"capability": block()}, "capabilities"),
        ({"capability": mounted(mode=Mode.SINGLE_NODE_MULTI_WRITER)}, "capabilities"),
    ],
    ids=lambda value: str(value).replace("\n", " ")[:40],
)
def test_the_same_name_with_another_request_is_a_conflict_that_says_in_what(
    calls: Calls, change: dict[str, object], said: str
) -> None:
    volume = calls.create("taken", GIB)
    answer = calls.try_create("taken", **change)  # type: ignore[arg-type]
    assert isinstance(answer, Refusal)
    assert answer.code is grpc.StatusCode.ALREADY_EXISTS
    assert said in answer.message
    calls.delete_until_done(volume.volume_id)


def test_names_may_be_any_unicode(calls: Calls) -> None:
    name = "größe–" + "x" * 100
    volume = calls.create(name, GIB, parameters={"csi.storage.k8s.io/pvc/name": "größe"})
    assert calls.create(name, GIB, parameters={"csi.storage.k8s.io/pvc/name": "größe"}).volume_id == volume.volume_id
    calls.delete_until_done(volume.volume_id)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"pool": "nopool"}, "pool"), ({"dataPool": "nopool"}, "dataPool"), ({"clusterID": "no"}, "clusterID")],
    ids=str,
)
def test_a_place_that_does_not_exist_is_refused_by_name(calls: Calls, parameters: dict[str, str], said: str) -> None:
    answer = calls.try_create("nowhere", GIB, parameters=parameters)
    assert isinstance(answer, Refusal)
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert said in answer.message


def test_a_foreign_image_without_an_entry_is_not_touched(calls: Calls, ceph_dev: DevCeph) -> None:
    """Somebody's image with the driver's naming: a delete by such a handle is refused, and the image stays."""
    volume = calls.create("probe", GIB)
    calls.delete_until_done(volume.volume_id)
    uuid = "11111111-2222-3333-4444-555555555555"
    ceph_dev.rbd("create", "--size", "1M", f"rbd/csi-vol-{uuid}")
    answer = calls.delete(volume.volume_id[:-36] + uuid)
    assert answer is not None
    assert answer.code is grpc.StatusCode.INTERNAL
    assert f"csi-vol-{uuid}" in ceph_dev.rbd("ls", "rbd")
    ceph_dev.rbd("rm", "--no-progress", f"rbd/csi-vol-{uuid}")
