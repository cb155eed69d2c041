"""Bad requests get the code that the specification names, a message that names the field, and leave nothing.

One driver on a real Ceph takes them all; the last tests look at what they left.
"""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_driver.dev.inventory import Place, inventory
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests.client import refusal
from tests.driver import DriverProcess
from tests.rpc.bad_rows import ABSENT, OTHER_KEY, ROWS, UNPARSABLE, Row
from tests.rpc.valid_requests import ARGUMENTLESS_RPCS, GIB, RPCS, World, create_volume, mounted

PLACES = (Place("rbd"), Place("second"), Place("second", "ns"))


@pytest.fixture(scope="module")
def driver(ceph_dev: DevCeph) -> Iterator[DriverProcess]:
    with DriverProcess.start(clusters=ceph_dev.config_json) as process:
        yield process


@pytest.fixture(scope="module")
def world(ceph_dev: DevCeph, driver: DriverProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Ends with the volume's deletion, which proves that it was still there and in nobody's use."""
    paths = tmp_path_factory.mktemp("node")
    (paths / "staging").mkdir()
    volume = driver.rpc.controller.CreateVolume(create_volume("real", ceph_dev)).volume
    yield World(driver.rpc, ceph_dev, volume, paths)
    secrets = ceph_dev.secrets("provisioner")
    driver.rpc.controller.DeleteVolume(pb.DeleteVolumeRequest(volume_id=volume.volume_id, secrets=secrets))


@pytest.fixture(scope="module")
def before(world: World) -> frozenset[str]:
    """What was in the pools before the first bad request: the volume `real` and whatever other tests left."""
    return found(world.ceph)


def found(ceph: DevCeph) -> frozenset[str]:
    return frozenset(f"{place}: {line}" for place in PLACES for line in inventory(ceph, place))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_bad_request_is_refused_and_told_why(row: Row, world: World, before: frozenset[str]) -> None:
    """The code is one that the specification allows for this fault, and the message names what is wrong."""
    request: Any = world.valid(row.rpc)
    row.spoil(request)
    if getattr(request, "volume_id", ""):
        request.volume_id = world.with_pool(request.volume_id)
    if getattr(request, "secrets", {}).get("userID") == "ns":
        request.secrets.update(world.ceph.secrets("ns"))
    answer = refusal(world.call(row.rpc), request)
    assert answer is not None, "the driver carried it out"
    assert answer.code in row.codes, answer.message
    assert re.search(row.names if "|" in row.names else re.escape(row.names), answer.message), answer.message
    assert world.ceph.keys["provisioner"] not in answer.message
    assert OTHER_KEY not in answer.message


@pytest.mark.parametrize("volume_id", UNPARSABLE + ABSENT)
def test_what_does_not_exist_counts_as_deleted(volume_id: str, world: World, before: frozenset[str]) -> None:
    """DeleteVolume of an id that leads to nothing succeeds, whatever the id looks like."""
    request = pb.DeleteVolumeRequest(volume_id=world.with_pool(volume_id), secrets=world.ceph.secrets("provisioner"))
    assert refusal(world.driver.controller.DeleteVolume, request) is None


@pytest.mark.parametrize("volume_id", UNPARSABLE + ABSENT)
def test_what_does_not_exist_counts_as_taken_away(volume_id: str, world: World, before: frozenset[str]) -> None:
    """Unpublishing and unstaging what was never there succeeds or is NOT_FOUND: nothing else ends a clean-up."""
    volume_id = world.with_pool(volume_id)
    target, staging = str(world.paths / "never"), str(world.paths / "neither")
    answers = [
        refusal(
            world.driver.node.NodeUnpublishVolume,
            pb.NodeUnpublishVolumeRequest(volume_id=volume_id, target_path=target),
        ),
        refusal(
            world.driver.node.NodeUnstageVolume,
            pb.NodeUnstageVolumeRequest(volume_id=volume_id, staging_target_path=staging),
        ),
    ]
    assert [answer for answer in answers if answer and answer.code is not grpc.StatusCode.NOT_FOUND] == []


def test_a_volume_of_an_unknown_cluster_is_not_taken_for_deleted(world: World, before: frozenset[str]) -> None:
    """A cluster that is missing in the configuration must not make its volumes vanish: the delete is refused by name."""
    foreign = str(world.volume.volume_id).replace("-0003-dev-", "-0007-nowhere-")
    request = pb.DeleteVolumeRequest(volume_id=foreign, secrets=world.ceph.secrets("provisioner"))
    answer = refusal(world.driver.controller.DeleteVolume, request)
    assert answer is not None
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "nowhere" in answer.message


def test_capabilities_that_cannot_be_had_are_an_answer(world: World, before: frozenset[str]) -> None:
    """ValidateVolumeCapabilities leaves `confirmed` unset and says why, instead of failing."""
    request = world.valid("ValidateVolumeCapabilities")
    assert isinstance(request, pb.ValidateVolumeCapabilitiesRequest)
    request.volume_capabilities.append(mounted("ntfs"))
    answer = world.driver.controller.ValidateVolumeCapabilities(request)
    assert not answer.HasField("confirmed")
    assert "fs_type" in answer.message


@pytest.mark.parametrize("name", ["tab\there", "line\nend\r", "ä" * 64, "名前", "a/b", "..", " ", "%s{}"])
def test_a_strange_name_is_a_name(name: str, world: World, before: frozenset[str]) -> None:
    """Any Unicode but control characters is a volume's name; tab, line feed and carriage return are not banned."""
    request = create_volume(name, world.ceph)
    volume = world.driver.controller.CreateVolume(request).volume
    assert world.driver.controller.CreateVolume(request).volume.volume_id == volume.volume_id
    secrets = world.ceph.secrets("provisioner")
    world.driver.controller.DeleteVolume(pb.DeleteVolumeRequest(volume_id=volume.volume_id, secrets=secrets))


def not_tried() -> list[str]:
    methods = (method for service in pb.DESCRIPTOR.services_by_name.values() for method in service.methods)
    return [method.name for method in methods if method.name not in RPCS + ARGUMENTLESS_RPCS]


def test_every_rpc_of_the_interface_is_tried_here() -> None:
    """None of them is UNIMPLEMENTED with this driver's clusters file."""
    assert not_tried() == []


@pytest.mark.parametrize("rpc", ARGUMENTLESS_RPCS)
def test_what_tells_of_the_driver_needs_no_argument(rpc: str, world: World) -> None:
    """The capability and identity calls answer."""
    assert refusal(world.call(rpc), getattr(pb, f"{rpc}Request")()) is None


def test_nothing_was_left_behind(world: World, before: frozenset[str], driver: DriverProcess) -> None:
    """After all of the above the pools hold no more than before, the volume is as it was, and no key was logged."""
    deadline = time.monotonic() + 60
    while (new := found(world.ceph) - before) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert new == frozenset()
    image = f"rbd/csi-vol-{world.volume.volume_id[-36:]}"
    assert json.loads(world.ceph.rbd("info", "--format", "json", image))["size"] == GIB
    assert [path.name for path in world.paths.rglob("*")] == ["staging"]
    assert not any(str(world.paths) in line for line in Path("/proc/self/mountinfo").read_text().splitlines())
    log = driver.log_text()
    assert "event=answer" in log  # it is the log of this worker's rows
    assert [user for user, key in world.ceph.keys.items() if key in log] == []
    assert OTHER_KEY not in log
