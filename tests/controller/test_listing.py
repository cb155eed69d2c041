"""Listings on a real Ceph: what creates answered is what is listed, page by page, while volumes come and go."""

import itertools
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from csi_driver.ceph.api import Create, ObjectMissing, Pool, Write
from csi_driver.dev.inventory import Place, inventory
from csi_driver.dev.layout import DevCeph
from csi_driver.errors import ClusterUnavailable
from csi_driver.model import ImageLayout
from csi_driver.pb import csi_pb2 as pb
from tests.client import Refusal, refusal
from tests.controller.calls import Calls, handle_parts
from tests.controller.test_ceph_csi import plant_ceph_csi_snapshot, plant_ceph_csi_volume
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver
from tests.rpc.valid_requests import GIB

WITH_IMAGES = os.environ.get("RBD_CSI_LISTED_VOLUMES")
MANY = int(WITH_IMAGES or "2000")
"""How many volumes the listing in pages is tried with. Where it is given they have images, which a listing never opens."""

PAGE = 500
INSTANCE = "listing"


@pytest.fixture(scope="module")
def driver(ceph_dev: DevCeph) -> Iterator[DriverProcess]:
    """With a journal of its own, in which there is nothing but what these tests make."""
    with DriverProcess.start("--controller", "--instance", INSTANCE, clusters=ceph_dev.config_json) as process:
        yield process
        _await_purged(ceph_dev)


def _await_purged(ceph: DevCeph) -> None:
    """No other driver would purge what this instance has deleted."""
    deadline = time.monotonic() + 120
    while left := {line for line in inventory(ceph, Place("rbd")) if f".{INSTANCE} deleted." in line}:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.fixture
def calls(driver: DriverProcess, ceph_dev: DevCeph) -> Calls:
    return Calls(driver.rpc, ceph_dev.secrets("provisioner"))


def volumes(calls: Calls, max_entries: int = 0, token: str = "") -> pb.ListVolumesResponse:
    request = pb.ListVolumesRequest(max_entries=max_entries, starting_token=token)
    return calls.driver.controller.ListVolumes(request, timeout=120)


def snapshots(calls: Calls, **fields: object) -> list[pb.Snapshot]:
    request = pb.ListSnapshotsRequest(**fields)  # type: ignore[arg-type]
    return [entry.snapshot for entry in calls.driver.controller.ListSnapshots(request, timeout=120).entries]


def by_id(found: list[pb.Volume]) -> list[pb.Volume]:
    return sorted(found, key=lambda one: str(one.volume_id))


def test_what_is_listed_is_what_was_answered(calls: Calls, ceph_dev: DevCeph) -> None:
    """Volumes, copies, in another pool and namespace too; and each alone."""
    in_namespace = Calls(calls.driver, ceph_dev.secrets("ns"), {"clusterID": "dev-ns", "pool": "second"})
    one = calls.create("one", parameters={"mounter": "fuse", "dataPool": "data"})
    snapshot = calls.snapshot("snap", one.volume_id)
    made = [
        one,
        calls.create("restored", 0, source=snapshot),
        calls.create("cloned", 2 * GIB, source=one),
        calls.create("elsewhere", parameters={"pool": "second"}),
        in_namespace.create("apart"),
    ]
    assert by_id([entry.volume for entry in volumes(calls).entries]) == by_id(made)
    assert snapshots(calls) == [snapshot]
    controller = calls.driver.controller
    for volume in made:
        alone = controller.ControllerGetVolume(pb.ControllerGetVolumeRequest(volume_id=volume.volume_id))
        assert alone.volume == volume
    found = controller.GetSnapshot(pb.GetSnapshotRequest(snapshot_id=snapshot.snapshot_id))
    assert found.snapshot == snapshot

    calls.delete_until_done(one.volume_id)
    left = made[1:]
    assert by_id([entry.volume for entry in volumes(calls).entries]) == by_id(left)
    assert snapshots(calls) == [snapshot], "a snapshot outlives its volume"
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    assert snapshots(calls) == []
    for volume in left:
        (in_namespace if "-dev-ns-" in volume.volume_id else calls).delete_until_done(volume.volume_id)
    assert list(volumes(calls).entries) == []


def test_snapshots_are_found_by_their_id_and_their_source(calls: Calls) -> None:
    one, two = calls.create("one"), calls.create("two")
    ones = [calls.snapshot(f"one-{number}", one.volume_id) for number in range(3)]
    twos = [calls.snapshot("two-0", two.volume_id)]
    assert snapshots(calls, source_volume_id=one.volume_id) == ones
    assert snapshots(calls, source_volume_id=two.volume_id, snapshot_id=twos[0].snapshot_id) == twos
    assert snapshots(calls, snapshot_id=ones[1].snapshot_id) == [ones[1]]
    for nothing in (
        {"snapshot_id": one.volume_id},
        {"snapshot_id": "none"},
        {"source_volume_id": "none"},
        {"source_volume_id": ones[0].snapshot_id},
        {"source_volume_id": one.volume_id, "snapshot_id": twos[0].snapshot_id},
    ):
        assert snapshots(calls, **nothing) == []
    for snapshot in (*ones, *twos):
        calls.delete_snapshot_until_done(snapshot.snapshot_id)
    for volume in (one, two):
        calls.delete_until_done(volume.volume_id)


def test_pages_of_snapshots_of_one_volume_add_up(calls: Calls) -> None:
    one, other = calls.create("one"), calls.create("other")
    made = [calls.snapshot(f"snap-{number}", (one, other)[number % 2].volume_id) for number in range(10)]
    token, told = "", list[pb.Snapshot]()
    for _ in range(3):
        request = pb.ListSnapshotsRequest(source_volume_id=one.volume_id, max_entries=2, starting_token=token)
        page = calls.driver.controller.ListSnapshots(request)
        told += [entry.snapshot for entry in page.entries]
        token = page.next_token
    assert token == ""
    assert told == made[::2]
    elsewhere = calls.create("elsewhere", parameters={"pool": "second"})
    token = calls.driver.controller.ListSnapshots(pb.ListSnapshotsRequest(max_entries=1)).next_token
    foreign = pb.ListSnapshotsRequest(source_volume_id=elsewhere.volume_id, starting_token=token)
    answer = refusal(calls.driver.controller.ListSnapshots, foreign)
    assert answer is not None
    assert answer.code is grpc.StatusCode.ABORTED
    for snapshot in made:
        calls.delete_snapshot_until_done(snapshot.snapshot_id)
    for volume in (one, other, elsewhere):
        calls.delete_until_done(volume.volume_id)


@pytest.mark.usefixtures("clean_pool")  # its driver is the only one of its journal
def test_what_the_go_driver_made_is_listed(ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool) -> None:
    """With the sizes that its journal does not record; what it never finished is not there."""
    calls = Calls(start_driver("--controller", clusters=ceph_dev.config_json).rpc, ceph_dev.secrets("provisioner"))
    plant_ceph_csi_volume(pool, "unfinished", with_image=False)
    theirs, old = plant_ceph_csi_volume(pool, "theirs"), plant_ceph_csi_volume(pool, "old", with_id=False)
    snap = plant_ceph_csi_snapshot(pool, "their-snap", f"csi-vol-{theirs}")
    listed = {handle_parts(entry.volume.volume_id)[2]: entry.volume for entry in volumes(calls).entries}
    made = [calls.create("theirs", GIB), calls.create("old", GIB)]
    assert [listed.get(one) for one in (theirs, old)] == made
    (found,) = [one for one in snapshots(calls) if handle_parts(one.snapshot_id)[2] == snap]
    assert found == calls.snapshot("their-snap", made[0].volume_id)
    assert [one for one in listed.values() if one.capacity_bytes == 0] == []
    calls.delete_snapshot_until_done(found.snapshot_id)
    for volume in (*made, calls.create("unfinished", GIB)):
        calls.delete_until_done(volume.volume_id)


def test_capacity_is_what_the_monitors_know_and_a_quota_leaves(calls: Calls, ceph_dev: DevCeph) -> None:
    """A volume may be made as large as the answer says, and not larger."""
    controller, parameters = calls.driver.controller, {"clusterID": "dev", "pool": "second"}
    free = controller.GetCapacity(pb.GetCapacityRequest(parameters=parameters))
    anywhere = controller.GetCapacity(pb.GetCapacityRequest())
    (known,) = [
        one["stats"]["max_avail"]
        for one in json.loads(ceph_dev.ceph("df", "--format", "json"))["pools"]
        if one["name"] == "second"
    ]
    assert free.available_capacity == pytest.approx(known, rel=0.05)
    assert anywhere.available_capacity >= 0.95 * free.available_capacity
    ceph_dev.ceph("osd", "pool", "set-quota", "second", "max_bytes", str(3 * GIB))
    try:
        await_capacity(calls, parameters, below=3 * GIB)
    finally:
        ceph_dev.ceph("osd", "pool", "set-quota", "second", "max_bytes", "0")
    most, least = free.maximum_volume_size.value, free.minimum_volume_size.value
    too_large = calls.try_create("large", most + least)
    assert isinstance(too_large, Refusal)
    assert too_large.code is grpc.StatusCode.OUT_OF_RANGE
    smallest = calls.create("small", least)
    assert smallest.capacity_bytes == least
    calls.delete_until_done(smallest.volume_id)


def await_capacity(calls: Calls, parameters: dict[str, str], *, below: int) -> None:
    """The monitors' figures are some seconds old."""
    ends = time.monotonic() + 120
    while True:
        answer = calls.driver.controller.GetCapacity(pb.GetCapacityRequest(parameters=parameters))
        if 0 < answer.available_capacity <= below:
            return
        assert time.monotonic() < ends, answer
        time.sleep(0.2)


def test_without_credentials_of_its_own_the_driver_lists_nothing(
    ceph_dev: DevCeph, start_driver: StartDriver, tmp_path: Path
) -> None:
    """One cluster without them is enough: the capabilities are not there, the calls UNIMPLEMENTED, and the log says why."""
    entries = json.loads(ceph_dev.config_json.read_text())
    del entries[1]["credentials"]
    clusters = tmp_path / "clusters.json"
    clusters.write_text(json.dumps(entries))
    driver = start_driver(clusters=clusters)
    found = driver.rpc.controller.ControllerGetCapabilities(pb.ControllerGetCapabilitiesRequest())
    offered = {one.rpc.type for one in found.capabilities}
    kind = pb.ControllerServiceCapability.RPC
    assert not offered & {kind.LIST_VOLUMES, kind.GET_VOLUME, kind.LIST_SNAPSHOTS, kind.GET_SNAPSHOT, kind.GET_CAPACITY}
    answer = refusal(driver.rpc.controller.ListVolumes, pb.ListVolumesRequest())
    assert answer is not None
    assert answer.code is grpc.StatusCode.UNIMPLEMENTED
    assert "dev-ns" in next(line for line in driver.log_text().splitlines() if "not offered" in line)


# ── many ──


def plant_many(pool: Pool, count: int) -> set[str]:
    """Uuids of volumes as creates leave them."""
    numbers = itertools.count()

    def plant(_: object) -> str:
        number, entry = next(numbers), str(uuid.uuid4())
        name = f"pvc-{number:06}-{entry}"
        image = f"csi-vol-{entry}"
        if WITH_IMAGES:
            pool.images.create(image, 1 << 20, ImageLayout(("layering",)))
        keys = {
            "state": "complete",
            "csi.volname": name,
            "csi.imagename": image,
            "csi.imageid": pool.images.find_id(image) or "none",
            "size": str(1 << 20),
            "request": json.dumps({"context": {"clusterID": "dev"}, "source": None}),
        }
        insist(lambda: pool.objects.apply(f"csi.volume.{entry}", Write(create=Create.ENSURE, put=keys)))
        named = Write(create=Create.ENSURE, put={f"csi.volume.{name}": entry})
        insist(lambda: pool.objects.apply(f"csi.volumes.{INSTANCE}", named))
        return entry

    with ThreadPoolExecutor(16) as threads:
        return set(threads.map(plant, range(count)))


def insist(write: Callable[[], None]) -> None:
    """Thousands of writes at once, on a machine that may have much else to do: one that timed out is done or done again."""
    while True:
        try:
            write()
        except ObjectMissing:
            return
        except ClusterUnavailable:
            continue
        return


def clear_many(pool: Pool, planted: set[str]) -> None:
    keys = pool.objects.read(f"csi.volumes.{INSTANCE}") or {}
    of_planted = [key for key, value in keys.items() if value in planted]
    insist(lambda: pool.objects.apply(f"csi.volumes.{INSTANCE}", Write(drop=of_planted)))

    def clear(entry: str) -> None:
        if WITH_IMAGES:
            pool.images.remove(f"csi-vol-{entry}")
        insist(lambda: pool.objects.apply(f"csi.volume.{entry}", Write(remove_object=True)))

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(clear, planted))


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.timeout(600 if MANY <= 2000 else 3600)
def test_many_volumes_in_pages_while_others_come_and_go(driver: DriverProcess, calls: Calls, pool: Pool) -> None:
    """None that lives throughout is lost or told twice; the process does not grow with their number."""
    planted = plant_many(pool, MANY)
    try:
        told, seconds = list[str](), list[float]()
        token, made = "", list[pb.Volume]()
        resident = [resident_kib(driver.pid)]
        for number in itertools.count():
            began = time.monotonic()
            page = volumes(calls, PAGE, token)
            seconds.append(time.monotonic() - began)
            resident.append(resident_kib(driver.pid))
            assert len(page.entries) == PAGE or not page.next_token
            told += [handle_parts(entry.volume.volume_id)[2] for entry in page.entries]
            token = page.next_token
            if not token:
                break
            made += [calls.create(f"{where}{number}") for where in ("a", f"pvc-{len(told):06}", "z")]
            for volume in made[:-4]:
                calls.delete_until_done(volume.volume_id)
            made = made[-4:]
        assert len(told) == len(set(told))
        assert planted <= set(told)
        assert resident[-1] - resident[1] < 30_000, f"KiB after each page: {resident}"
        print(f"{MANY} volumes: pages of {PAGE} in {max(seconds):.2f} s at most; KiB {resident}")  # noqa: T201
        for volume in made:
            calls.delete_until_done(volume.volume_id)
    finally:
        clear_many(pool, planted)
