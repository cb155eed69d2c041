"""ControllerGetVolumeHealth: each trouble is told with its reason while it lasts, and only of the volumes that have it."""

import time
from collections.abc import Iterator

import grpc
import pytest

from csi_driver.ceph.api import Pool
from csi_driver.dev import cluster
from csi_driver.dev.layout import DevCeph, DevOptions
from csi_driver.pb import csi_pb2 as pb
from tests.client import refusal
from tests.controller.calls import Calls
from tests.driver import DriverProcess
from tests.image_client import ImageClient
from tests.osd import stopped_osd

AWAITED_S = 30
"""How soon a trouble must be told; and in how much more time it must be seen to be gone on a machine under load."""


@pytest.fixture(scope="module")
def troubled_ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCeph]:
    """A cluster of its own, since its pools are filled and its OSD is stopped."""
    directory = tmp_path_factory.mktemp("troubled") / "ceph"
    try:
        yield cluster.up(DevOptions(directory))
    finally:
        cluster.down(directory, purge=True)


@pytest.fixture(scope="module")
def driver(troubled_ceph: DevCeph) -> Iterator[DriverProcess]:
    with DriverProcess.start("--controller", clusters=troubled_ceph.config_json) as driver:
        yield driver


@pytest.fixture
def volumes(troubled_ceph: DevCeph, driver: DriverProcess) -> Iterator[tuple[str, str]]:
    """Two volumes: in the pool `rbd`, and in the pool `second`."""
    calls = Calls(driver.rpc, troubled_ceph.secrets("provisioner"))
    made = [calls.create(f"in-{pool}", parameters={"pool": pool}).volume_id for pool in ("rbd", "second")]
    yield made[0], made[1]
    for volume_id in made:
        calls.delete_until_done(volume_id)


def health(driver: DriverProcess, volume_id: str) -> dict[str, int]:
    """Statuses by reason."""
    answer = driver.rpc.controller.ControllerGetVolumeHealth(
        pb.ControllerGetVolumeHealthRequest(volume_id=volume_id), timeout=60
    ).volume_health
    assert answer.volume_id == volume_id
    assert all(one.message for one in answer.health_statuses)
    return {one.reason: one.status for one in answer.health_statuses}


def await_health(driver: DriverProcess, volume_id: str, wanted: dict[str, int], timeout_s: float = AWAITED_S) -> None:
    deadline = time.monotonic() + timeout_s
    while (seen := health(driver, volume_id)) != wanted:
        assert time.monotonic() < deadline, f"{seen}, not {wanted}"
        time.sleep(0.2)


def test_a_full_pool_is_told_of_its_own_volumes_alone_and_no_longer_when_there_is_room(
    troubled_ceph: DevCeph, driver: DriverProcess, volumes: tuple[str, str]
) -> None:
    full, other = volumes
    assert health(driver, full) == {}
    troubled_ceph.ceph("osd", "pool", "set-quota", "rbd", "max_objects", "1")
    try:
        await_health(driver, full, {"PoolFull": pb.DEGRADED})
        assert health(driver, other) == {}
    finally:
        troubled_ceph.ceph("osd", "pool", "set-quota", "rbd", "max_objects", "0")
    await_health(driver, full, {}, 2 * AWAITED_S)


def test_a_stopped_osd_is_told_in_time_and_no_longer_when_it_is_back(
    troubled_ceph: DevCeph, driver: DriverProcess, volumes: tuple[str, str]
) -> None:
    with stopped_osd(troubled_ceph):
        began = time.monotonic()
        assert health(driver, volumes[0]) == {"ClusterUnreachable": pb.INACCESSIBLE}
        assert time.monotonic() - began < AWAITED_S
    await_health(driver, volumes[0], {}, 4 * AWAITED_S)


def test_a_client_that_was_cut_off_is_told_until_its_lock_is_gone(
    troubled_ceph: DevCeph, driver: DriverProcess, volumes: tuple[str, str]
) -> None:
    fenced, other = volumes
    image = f"csi-vol-{fenced[-36:]}"
    with ImageClient(troubled_ceph, image) as client:
        assert health(driver, fenced) == {}
        troubled_ceph.ceph("osd", "blocklist", "add", client.address)
        await_health(driver, fenced, {"ClientBlocklisted": pb.INACCESSIBLE})
        assert health(driver, other) == {}
        client.kill()
    with ImageClient(troubled_ceph, image):  # takes the lock over
        await_health(driver, fenced, {})


def listed(driver: DriverProcess, most: int = 0) -> list[str]:
    """Ids of the volumes that are told to be unhealthy, over all pages."""
    found, token = [], ""
    while True:
        request = pb.ControllerListVolumeHealthRequest(max_entries=most, starting_token=token)
        answer = driver.rpc.controller.ControllerListVolumeHealth(request, timeout=60)
        assert not most or len(answer.entries) <= most
        assert all(entry.health_statuses for entry in answer.entries)
        found += [entry.volume_id for entry in answer.entries]
        token = answer.next_token
        if not token:
            return found


def test_a_list_holds_the_unhealthy_volumes_alone_page_by_page(
    ceph_dev: DevCeph, shared_driver: DriverProcess, calls: Calls
) -> None:
    volumes = [calls.create(f"listed-{number}").volume_id for number in range(6)]
    lost = volumes[::2]
    for volume_id in lost:
        ceph_dev.rbd("rm", "--no-progress", f"rbd/csi-vol-{volume_id[-36:]}")
    for most in (0, 1, 2):
        assert sorted(listed(shared_driver, most)) == sorted(lost)
    for volume_id in lost:
        ceph_dev.rbd("create", "--size", "1G", f"rbd/csi-vol-{volume_id[-36:]}")
    assert listed(shared_driver) == []
    for volume_id in volumes:
        calls.delete_until_done(volume_id)


def test_a_bad_token_ends_the_listing_as_aborted(shared_driver: DriverProcess) -> None:
    request = pb.ControllerListVolumeHealthRequest(starting_token="invalid-token")
    refused = refusal(shared_driver.rpc.controller.ControllerListVolumeHealth, request)
    assert refused
    assert refused.code is grpc.StatusCode.ABORTED


def test_an_image_that_somebody_removed_is_a_loss_of_data(
    ceph_dev: DevCeph, shared_driver: DriverProcess, calls: Calls, pool: Pool
) -> None:
    lost, kept = calls.create("lost"), calls.create("kept-beside")
    image = f"csi-vol-{lost.volume_id[-36:]}"
    ceph_dev.rbd("rm", "--no-progress", f"rbd/{image}")
    assert health(shared_driver, lost.volume_id) == {"ImageMissing": pb.DATA_LOSS}
    assert health(shared_driver, kept.volume_id) == {}
    ceph_dev.rbd("create", "--size", "1G", f"rbd/{image}")
    assert health(shared_driver, lost.volume_id) == {}
    for volume in (lost, kept):
        calls.delete_until_done(volume.volume_id)


@pytest.mark.parametrize(
    "volume_id", ["none-exist-id", "0001-0003-dev-0000000000000001-50d53503-9da1-41ed-847e-bacf8f2f1297"]
)
def test_a_volume_that_does_not_exist_is_not_found(shared_driver: DriverProcess, volume_id: str) -> None:
    request = pb.ControllerGetVolumeHealthRequest(volume_id=volume_id)
    refused = refusal(shared_driver.rpc.controller.ControllerGetVolumeHealth, request)
    assert refused
    assert refused.code is grpc.StatusCode.NOT_FOUND
