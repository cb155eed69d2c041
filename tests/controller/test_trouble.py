"""A cluster that does not answer, and a client that died with an image's lock: answers in time, and success afterwards."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from csi_driver.dev import cluster
from csi_driver.dev.layout import DevCeph, DevOptions
from csi_driver.pb import csi_pb2 as pb
from tests.client import Refusal, refusal
from tests.controller.calls import UNFINISHED, Calls
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver
from tests.image_client import ImageClient
from tests.osd import stopped_osd
from tests.rpc.valid_requests import GIB, mounted

TIMEOUT_S = 6
SLACK_S = 1.0
"""What an answer may come late by on a machine that does other things as well."""


@pytest.fixture(scope="module")
def fragile_ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCeph]:
    """A cluster of its own, since its OSD is stopped."""
    directory = tmp_path_factory.mktemp("fragile") / "ceph"
    try:
        yield cluster.up(DevOptions(directory))
    finally:
        cluster.down(directory, purge=True)


def timed(call: Callable[[], object]) -> tuple[float, object]:
    began = time.monotonic()
    answer = call()
    return time.monotonic() - began, answer


def test_with_the_osd_stopped_every_call_answers_in_time_and_succeeds_later(
    fragile_ceph: DevCeph, start_driver: StartDriver, tmp_path: Path
) -> None:
    driver = start_driver("--timeout", str(TIMEOUT_S), clusters=fragile_ceph.config_json)
    calls = Calls(driver.rpc, fragile_ceph.secrets("provisioner"))
    kept, doomed = calls.create("kept"), calls.create("doomed")
    with stopped_osd(fragile_ceph), ThreadPoolExecutor(16) as threads:
        pending = {
            name: threads.submit(timed, call)
            for name, call in {
                "CreateVolume": lambda: calls.try_create("new"),
                "CreateVolume again": lambda: calls.try_create("kept"),
                "DeleteVolume": lambda: calls.delete(doomed.volume_id),
                "ControllerExpandVolume": lambda: calls.expand(kept.volume_id, 2 * GIB),
                "ValidateVolumeCapabilities": lambda: validate(driver, calls, kept),
                "NodeStageVolume": lambda: stage(driver, fragile_ceph, kept, tmp_path),
            }.items()
        }
        for _ in range(3):
            seconds, _ready = timed(lambda: driver.rpc.identity.Probe(pb.ProbeRequest(), timeout=5))
            assert seconds < 1
        for name, answer in pending.items():
            seconds, refused = answer.result()
            assert isinstance(refused, Refusal), name
            assert refused.code in UNFINISHED, (name, refused)
            assert seconds < TIMEOUT_S + SLACK_S, name
    assert calls.create_until_done("new").capacity_bytes == GIB
    assert calls.create_until_done("kept").volume_id == kept.volume_id
    assert until_done(lambda: calls.expand(kept.volume_id, 2 * GIB)) == 2 * GIB
    for volume in (doomed, kept, calls.create_until_done("new")):
        calls.delete_until_done(volume.volume_id)


@pytest.mark.usefixtures("clean_pool")
def test_a_lock_left_by_a_killed_client_delays_no_answer(ceph_dev: DevCeph, start_driver: StartDriver) -> None:
    """librbd waits 30 s for it, whatever the timeouts of librados say; the call answers, and its work goes on."""
    driver = start_driver("--controller", "--timeout", str(TIMEOUT_S), clusters=ceph_dev.config_json)
    calls = Calls(driver.rpc, ceph_dev.secrets("provisioner"))
    volume = calls.create("locked")
    client = ImageClient(ceph_dev, volume.volume_context["imageName"])
    client.kill()
    seconds, answer = timed(lambda: calls.expand(volume.volume_id, 2 * GIB))
    assert isinstance(answer, Refusal)
    assert answer.code is grpc.StatusCode.ABORTED
    assert seconds < TIMEOUT_S + SLACK_S
    again = calls.expand(volume.volume_id, 2 * GIB)
    assert isinstance(again, Refusal)
    assert "ControllerExpandVolume" in again.message, "who holds the volume is named"
    other = calls.create("another")
    assert other.capacity_bytes == GIB, "other volumes are not held up"
    calls.delete_until_done(other.volume_id)
    assert until_done(lambda: calls.expand(volume.volume_id, 2 * GIB)) == 2 * GIB
    calls.delete_until_done(volume.volume_id)


def until_done(call: Callable[[], int | Refusal]) -> int:
    deadline = time.monotonic() + 90
    while isinstance(answer := call(), Refusal):
        assert answer.code in UNFINISHED, answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.5)  # a sidecar waits longer between its calls
    return answer


def validate(driver: DriverProcess, calls: Calls, volume: pb.Volume) -> Refusal | None:
    request = pb.ValidateVolumeCapabilitiesRequest(
        volume_id=volume.volume_id, volume_capabilities=[mounted()], secrets=calls.secrets
    )
    return refusal(driver.rpc.controller.ValidateVolumeCapabilities, request)


def stage(driver: DriverProcess, ceph: DevCeph, volume: pb.Volume, path: Path) -> Refusal | None:
    (path / "staging").mkdir()
    request = pb.NodeStageVolumeRequest(
        volume_id=volume.volume_id,
        staging_target_path=str(path / "staging"),
        volume_capability=mounted(),
        secrets=ceph.secrets("node"),
        volume_context=volume.volume_context,
    )
    return refusal(driver.rpc.node.NodeStageVolume, request)
