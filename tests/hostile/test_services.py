"""No hostile request is answered with UNKNOWN, or with INTERNAL; none ends the driver, hangs, or leaves anything."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from csi_driver.dev.inventory import Place, inventory
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests.client import Refusal, refusal_of
from tests.controller.calls import UNFINISHED
from tests.driver import DriverProcess
from tests.hostile.spoiling import Spoiler
from tests.rpc.valid_requests import METADATA_RPCS, RPCS, World, create_volume

REQUESTS = int(os.environ.get("HOSTILE_REQUESTS", "300"))
"""For each service."""
LONGEST_S = 60.0
PLACES = (Place("rbd"), Place("second"), Place("second", "ns"))
SERVICES = {name: [method.name for method in one.methods] for name, one in pb.DESCRIPTOR.services_by_name.items()}
_FIELD_1000 = b"\xc2\x3e"
"""Of bytes."""
_WRONG = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED)


@pytest.fixture(scope="module")
def driver(ceph_dev: DevCeph) -> Iterator[DriverProcess]:
    with DriverProcess.start(clusters=ceph_dev.config_json) as process:
        yield process


@pytest.fixture(scope="module")
def world(ceph_dev: DevCeph, driver: DriverProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    paths = tmp_path_factory.mktemp("hostile")
    (paths / "staging").mkdir()
    (paths / "file").write_text("not a directory")
    (paths / "link").symlink_to(paths / "staging")
    volume = driver.rpc.controller.CreateVolume(create_volume("real", ceph_dev)).volume
    yield World(driver.rpc, ceph_dev, volume, paths)
    secrets = ceph_dev.secrets("provisioner")
    unpublished = pb.ControllerUnpublishVolumeRequest(volume_id=volume.volume_id, secrets=secrets)
    until_done(lambda: driver.rpc.controller.ControllerUnpublishVolume(unpublished))
    deleted = pb.DeleteVolumeRequest(volume_id=volume.volume_id, secrets=secrets)
    until_done(lambda: driver.rpc.controller.DeleteVolume(deleted))


def until_done(call: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            call()
        except grpc.RpcError as error:
            answer = refusal_of(error)
            assert answer.code in UNFINISHED, answer
            assert time.monotonic() < deadline, answer
            continue
        return


def found(ceph: DevCeph) -> frozenset[str]:
    """But for data: a file system may have been made on the volume `real`."""
    lines = (f"{place}: {line}" for place in PLACES for line in inventory(ceph, place))
    return frozenset(line for line in lines if "object rbd_data." not in line)


def answer_to(world: World, rpc: str, request: Message) -> Any:
    """What is answered; a Refusal is one, too."""
    services = (
        world.driver.identity,
        world.driver.controller,
        world.driver.node,
        world.driver.groups,
        world.driver.metadata,
    )
    method = next(getattr(service, rpc) for service in services if hasattr(service, rpc))
    try:
        answer = method(request, timeout=LONGEST_S)
        return list(answer) if rpc in METADATA_RPCS else answer
    except grpc.RpcError as error:
        return refusal_of(error)


def undo(world: World, rpc: str, request: Any, answer: Any) -> None:
    """What was carried out after all."""
    controller, node = world.driver.controller, world.driver.node
    secrets = world.ceph.secrets("provisioner")
    if rpc == "CreateVolume":
        made = pb.DeleteVolumeRequest(volume_id=answer.volume.volume_id, secrets=secrets)
        until_done(lambda: controller.DeleteVolume(made))
    elif rpc == "CreateSnapshot":
        cut = pb.DeleteSnapshotRequest(snapshot_id=answer.snapshot.snapshot_id, secrets=secrets)
        until_done(lambda: controller.DeleteSnapshot(cut))
    elif rpc == "CreateVolumeGroupSnapshot":
        group = answer.group_snapshot
        ids = [one.snapshot_id for one in group.snapshots]
        all_cut = pb.DeleteVolumeGroupSnapshotRequest(
            group_snapshot_id=group.group_snapshot_id, snapshot_ids=ids, secrets=secrets
        )
        until_done(lambda: world.driver.groups.DeleteVolumeGroupSnapshot(all_cut))
    elif rpc == "NodeStageVolume":
        staged = pb.NodeUnstageVolumeRequest(
            volume_id=request.volume_id, staging_target_path=request.staging_target_path
        )
        until_done(lambda: node.NodeUnstageVolume(staged))
    elif rpc == "NodePublishVolume":
        published = pb.NodeUnpublishVolumeRequest(volume_id=request.volume_id, target_path=request.target_path)
        until_done(lambda: node.NodeUnpublishVolume(published))


@st.composite
def hostile(draw: st.DrawFn, world: World, rpcs: list[str]) -> tuple[str, Message]:
    rpc = draw(st.sampled_from(rpcs))
    spoiler = Spoiler(draw, world.paths)
    if rpc in RPCS and draw(st.integers(0, 3)):
        request = world.valid(rpc)
        spoiler.spoil(request)
    else:
        service = next(one for one in pb.DESCRIPTOR.services_by_name.values() if rpc in one.methods_by_name)
        request = GetMessageClass(service.methods_by_name[rpc].input_type)()
        spoiler.fill(request)
    if rpc == "DeleteVolume" and getattr(request, "volume_id", "") == world.volume.volume_id:
        request.ClearField("volume_id")
    unknown = draw(st.binary(max_size=8))  # of a newer release, perhaps; and no two requests of no field are the same
    request.MergeFromString(_FIELD_1000 + bytes([len(unknown)]) + unknown)
    return rpc, request


@pytest.mark.timeout(300 + REQUESTS)
@pytest.mark.parametrize("service", SERVICES)
def test_hostile_requests_are_refused_and_leave_nothing(
    service: str, world: World, driver: DriverProcess, ceph_dev: DevCeph
) -> None:
    pid, before, codes = driver.pid, found(ceph_dev), Counter[str]()

    @settings(
        max_examples=REQUESTS,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(sent=hostile(world, SERVICES[service]))
    def is_answered(sent: tuple[str, Message]) -> None:
        rpc, request = sent
        answer = answer_to(world, rpc, request)
        if not isinstance(answer, Refusal):
            codes["OK"] += 1
            undo(world, rpc, request, answer)
            return
        codes[answer.code.name] += 1
        assert answer.code not in _WRONG, answer
        assert ceph_dev.keys["provisioner"] not in answer.message

    is_answered()
    print(f"\n{service}: {dict(codes)}")  # noqa: T201 - the test's report
    assert sum(codes.values()) >= REQUESTS
    assert driver.pid == pid
    assert driver.rpc.is_ready(timeout_s=30)
    deadline = time.monotonic() + 120
    while (new := found(ceph_dev) ^ before) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert new == frozenset()
    assert not any(str(world.paths) in line for line in Path("/proc/self/mountinfo").read_text().splitlines())
