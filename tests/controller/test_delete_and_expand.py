"""DeleteVolume and ControllerExpandVolume."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from csi_driver.ceph.api import Create, Pool, Write
from csi_driver.dev.layout import DevCeph
from tests import image_data
from tests.client import Refusal
from tests.controller.calls import Calls, handle_parts
from tests.image_client import ImageClient
from tests.rpc.valid_requests import GIB

pytestmark = pytest.mark.usefixtures("clean_pool")


@contextmanager
def volume(calls: Calls, name: str) -> Iterator[tuple[str, str]]:
    """Handle and image of a volume that is deleted at the end."""
    made = calls.create(name, GIB)
    yield made.volume_id, made.volume_context["imageName"]
    calls.delete_until_done(made.volume_id)


def test_a_repeated_delete_is_fine(calls: Calls) -> None:
    made = calls.create("gone", GIB)
    assert calls.delete(made.volume_id) is None
    assert calls.delete(made.volume_id) is None


def test_a_name_is_free_after_a_delete_and_its_handle_is_never_used_again(calls: Calls) -> None:
    handles = set()
    for _ in range(3):
        with volume(calls, "same") as (handle, _image):
            handles.add(handle)
    assert len(handles) == 3


def test_an_image_that_a_client_has_open_is_not_deleted(calls: Calls, ceph_dev: DevCeph) -> None:
    """The answer names the client's address; nothing was changed; after the client is gone the delete works."""
    with volume(calls, "open") as (handle, image):
        with ImageClient(ceph_dev, image) as client:
            answer = calls.delete(handle)
            assert answer is not None
            assert answer.code is grpc.StatusCode.FAILED_PRECONDITION
            assert client.address in answer.message
        assert image in ceph_dev.rbd("ls", "rbd")


def test_an_image_that_a_driver_has_open_is_busy(calls: Calls, ceph_dev: DevCeph, pool: Pool) -> None:
    """Another process of the driver, known by its record among the makers, is no client: the call is repeated."""
    with volume(calls, "own") as (handle, image), ImageClient(ceph_dev, image) as client:
        record = json.dumps({"address": client.address, "former": []})
        pool.objects.apply("csi.makers.default", Write(create=Create.ENSURE, put={"other/worker": record}))
        answer = calls.delete(handle)
        pool.objects.apply("csi.makers.default", Write(drop=("other/worker",)))
        assert answer is not None
        assert answer.code is grpc.StatusCode.ABORTED


def test_an_image_with_snapshots_is_not_deleted(calls: Calls, ceph_dev: DevCeph) -> None:
    with volume(calls, "snapped") as (handle, image):
        ceph_dev.rbd("snap", "create", "--no-progress", f"rbd/{image}@by-hand")
        answer = calls.delete(handle)
        assert answer is not None
        assert answer.code is grpc.StatusCode.FAILED_PRECONDITION
        assert "by-hand" in answer.message
        ceph_dev.rbd("snap", "rm", "--no-progress", f"rbd/{image}@by-hand")


def test_a_volume_whose_image_is_missing_is_left_to_a_person(calls: Calls, pool: Pool, ceph_dev: DevCeph) -> None:
    """Neither an empty image in its place nor a delete that forgets it."""
    with volume(calls, "lost") as (handle, image):
        ceph_dev.rbd("rename", f"rbd/{image}", "rbd/elsewhere")
        assert getattr(calls.delete(handle), "code", None) is grpc.StatusCode.INTERNAL
        assert calls.create("lost", GIB).volume_id == handle
        assert pool.images.find_id(image) is None
        ceph_dev.rbd("rename", "rbd/elsewhere", f"rbd/{image}")


def test_growth_is_recorded_and_repeated_growth_changes_nothing(calls: Calls, pool: Pool) -> None:
    with volume(calls, "grown") as (handle, image):
        assert calls.expand(handle, 2 * GIB) == 2 * GIB
        assert calls.expand(handle, 2 * GIB) == 2 * GIB
        assert calls.expand(handle, GIB) == 2 * GIB
        assert pool.images.inspect(image).size_bytes == 2 * GIB
        assert (pool.objects.read(f"csi.volume.{handle_parts(handle)[2]}") or {})["size"] == str(2 * GIB)
        assert calls.create("grown", GIB).capacity_bytes == 2 * GIB


def test_an_image_that_lost_a_race_of_two_expansions_grows_to_what_was_answered(
    calls: Calls, ceph_dev: DevCeph
) -> None:
    """Both replicas resized, and the lesser size came last."""
    with volume(calls, "raced") as (handle, image):
        assert calls.expand(handle, 3 * GIB) == 3 * GIB
        with image_data.opened(ceph_dev, image) as opened:
            opened.resize(2 * GIB)
        assert calls.expand(handle, 2 * GIB) == 3 * GIB
        with image_data.opened(ceph_dev, image, read_only=True) as opened:
            assert opened.size() == 3 * GIB


def test_growth_above_the_limit_is_out_of_range_and_changes_nothing(calls: Calls, pool: Pool) -> None:
    with volume(calls, "limited") as (handle, image):
        answer = calls.expand(handle, GIB // 2, limit_bytes=GIB // 2)
        assert isinstance(answer, Refusal)
        assert answer.code is grpc.StatusCode.OUT_OF_RANGE
        assert pool.images.inspect(image).size_bytes == GIB


def test_an_image_grown_behind_the_driver_is_never_shrunk(calls: Calls, pool: Pool) -> None:
    with volume(calls, "grown-by-hand") as (handle, image):
        pool.images.grow(image, 3 * GIB)
        assert calls.expand(handle, 2 * GIB) == 3 * GIB
        assert pool.images.inspect(image).size_bytes == 3 * GIB
