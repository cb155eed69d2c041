"""Volumes of a class whose pools are bound to zones: chosen, told and found again, on real pools."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from csi_driver.dev.inventory import Place, leftovers
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests.client import Refusal, refusal_of
from tests.controller.calls import Calls, handle_parts
from tests.driver import DriverProcess
from tests.rpc.valid_requests import GIB, mounted

ZONE = "topology.rbd.csi.internal/zone"
A, B, C = {ZONE: "a"}, {ZONE: "b"}, {ZONE: "c"}


def bound(pool: str, zone: str) -> dict[str, Any]:
    return {"poolName": pool, "domainSegments": [{"domainLabel": "zone", "value": zone}]}


BY_ZONE = {"topologyConstrainedPools": json.dumps([bound("second", "a"), bound("data", "b")])}


@pytest.fixture(scope="module")
def driver(ceph_dev: DevCeph) -> Iterator[DriverProcess]:
    with DriverProcess.start("--controller", "--topology", clusters=ceph_dev.config_json) as driver:
        yield driver


@dataclass(frozen=True)
class Bed:
    calls: Calls
    pool_ids: Mapping[int, str]

    def create(self, name: str, *wishes: Mapping[str, str], **parameters: str) -> pb.Volume | Refusal:
        request = pb.CreateVolumeRequest(
            name=name,
            capacity_range=pb.CapacityRange(required_bytes=GIB),
            volume_capabilities=[mounted()],
            parameters={**self.calls.parameters, **BY_ZONE, **parameters},
            secrets=self.calls.secrets,
        )
        request.accessibility_requirements.preferred.extend(pb.Topology(segments=one) for one in wishes)
        try:
            return self.calls.driver.controller.CreateVolume(request, timeout=120).volume
        except grpc.RpcError as error:
            return refusal_of(error)

    def made(self, name: str, *wishes: Mapping[str, str], **parameters: str) -> pb.Volume:
        answer = self.create(name, *wishes, **parameters)
        assert isinstance(answer, pb.Volume), answer
        return answer

    def pool_of(self, volume: pb.Volume) -> str:
        return self.pool_ids[handle_parts(volume.volume_id)[1]]


@pytest.fixture
def bed(ceph_dev: DevCeph, driver: DriverProcess) -> Iterator[Bed]:
    pools = json.loads(ceph_dev.ceph("osd", "lspools", "--format", "json"))
    yield Bed(Calls(driver.rpc, ceph_dev.secrets("provisioner")), {one["poolnum"]: one["poolname"] for one in pools})
    for pool in ("rbd", "second", "data"):
        assert leftovers(ceph_dev, Place(pool)) == frozenset(), pool


def segments(volume: pb.Volume | pb.Snapshot) -> list[dict[str, str]]:
    return [dict(one.segments) for one in volume.accessible_topology]


def test_the_preferred_zone_has_the_volume_and_a_repeated_call_finds_it(bed: Bed) -> None:
    """Its name's key is in the class's pool, its image in the zone's; the context names both."""
    volume = bed.made("zonal", B, A)
    assert (bed.pool_of(volume), segments(volume)) == ("data", [B])
    assert (volume.volume_context["pool"], volume.volume_context["journalPool"]) == ("data", "rbd")
    assert bed.made("zonal", A, B).volume_id == volume.volume_id
    bed.calls.delete_until_done(volume.volume_id)


def test_a_zone_that_no_pool_has_is_refused_and_leaves_nothing(bed: Bed) -> None:
    refused = bed.create("nowhere", C)
    assert isinstance(refused, Refusal)
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "zone=c" in refused.message


def test_a_volume_that_lives_elsewhere_is_a_conflict(bed: Bed) -> None:
    volume = bed.made("bound", A)
    refused = bed.create("bound", B)
    assert isinstance(refused, Refusal)
    assert refused.code is grpc.StatusCode.ALREADY_EXISTS
    bed.calls.delete_until_done(volume.volume_id)


def test_a_deleted_name_is_free_for_another_zone(bed: Bed) -> None:
    first = bed.made("moved", A)
    bed.calls.delete_until_done(first.volume_id)
    second = bed.made("moved", B)
    assert bed.pool_of(second) == "data"
    bed.calls.delete_until_done(second.volume_id)


def test_a_class_without_bound_pools_is_reachable_from_everywhere(bed: Bed) -> None:
    volume = bed.made("anywhere", C, topologyConstrainedPools="")
    assert (bed.pool_of(volume), segments(volume)) == ("rbd", [])
    bed.calls.delete_until_done(volume.volume_id)


def test_a_snapshot_is_where_its_volume_is_and_is_refused_elsewhere(bed: Bed) -> None:
    volume = bed.made("cut", A)

    def cut(name: str, wish: Mapping[str, str]) -> pb.Snapshot:
        request = pb.CreateSnapshotRequest(name=name, source_volume_id=volume.volume_id, secrets=bed.calls.secrets)
        request.accessibility_requirements.requisite.add(segments=wish)
        return bed.calls.driver.controller.CreateSnapshot(request, timeout=120).snapshot

    snapshot = cut("cut-a", A)
    assert segments(snapshot) == [A]
    with pytest.raises(grpc.RpcError) as error:
        cut("cut-b", B)
    assert refusal_of(error.value).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    bed.calls.delete_snapshot_until_done(snapshot.snapshot_id)
    bed.calls.delete_until_done(volume.volume_id)


def test_listings_tell_the_zone_and_a_zone_without_a_pool_has_no_room(bed: Bed) -> None:
    """Its name's key is in one pool and its entry in another: it is told once."""
    volume = bed.made("listed", B)
    controller = bed.calls.driver.controller
    listed = [entry.volume for entry in controller.ListVolumes(pb.ListVolumesRequest()).entries]
    assert [one for one in listed if one.volume_id == volume.volume_id] == [volume]
    for zone, has_room in ((A, True), (B, True), (C, False), ({}, True)):
        request = pb.GetCapacityRequest(parameters={**bed.calls.parameters, **BY_ZONE})
        if zone:
            request.accessible_topology.segments.update(zone)
        answer = controller.GetCapacity(request)
        assert (answer.available_capacity > 0, answer.maximum_volume_size.value > 0) == (has_room, has_room), zone
    bed.calls.delete_until_done(volume.volume_id)
