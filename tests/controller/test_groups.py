"""Group snapshots: made, restored, deleted, refused; and cut short or overtaken at every step."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from csi_driver.ceph.api import Pool, Write
from csi_driver.dev.inventory import Place, leftovers
from csi_driver.dev.layout import DevCeph
from csi_driver.journal.layout import GROUPS
from csi_driver.pb import csi_pb2 as pb
from tests import image_data
from tests.client import Refusal
from tests.controller.calls import UNFINISHED, Calls
from tests.controller.group_calls import (
    delete_group,
    delete_group_until_done,
    get_group,
    group_until_done,
    ids_of,
    try_group,
)
from tests.controller.keeping import await_that
from tests.controller.test_audit import audit
from tests.controller.test_copies import image_of
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver

pytestmark = pytest.mark.usefixtures("clean_pool")

MIB = 1 << 20
UNKNOWN = "0001-0003-dev-0000000000000001-50d53503-9da1-11ed-847e-bacf8f2f1297"


def volumes_with(calls: Calls, ceph: DevCeph, data: bytes, count: int = 2) -> list[pb.Volume]:
    """New ones of 8 MiB that begin with the data and their number."""
    made = [calls.create_until_done(f"member-{number}", 8 * MIB) for number in range(count)]
    for number, volume in enumerate(made):
        image_data.write(ceph, image_of(volume), data + str(number).encode())
    return made


def restored(calls: Calls, ceph: DevCeph, group: pb.VolumeGroupSnapshot) -> dict[str, bytes]:
    """What each member reads when it is restored, by its source; the copies are deleted again."""
    found: dict[str, bytes] = {}
    for number, snapshot in enumerate(group.snapshots):
        copy = calls.create_until_done(f"restored-{number}", 0, source=snapshot)
        found[snapshot.source_volume_id] = image_data.read(ceph, image_of(copy), 4)
        calls.delete_until_done(copy.volume_id)
    return found


def of(volumes: list[pb.Volume], data: bytes) -> dict[str, bytes]:
    return {volume.volume_id: data + str(number).encode() for number, volume in enumerate(volumes)}


def code_of(answer: object) -> grpc.StatusCode | None:
    return answer.code if isinstance(answer, Refusal) else None


def test_a_group_is_made_once_restored_and_deleted_as_a_whole(calls: Calls, ceph_dev: DevCeph) -> None:
    volumes = volumes_with(calls, ceph_dev, b"old", 3)
    group = group_until_done(
        calls, "group", volumes, {"clusterID": "dev", "csi.storage.k8s.io/volumegroupsnapshot/name": "g"}
    )
    assert group.ready_to_use
    assert {one.source_volume_id for one in group.snapshots} == {one.volume_id for one in volumes}
    assert {one.group_snapshot_id for one in group.snapshots} == {group.group_snapshot_id}
    assert {one.size_bytes for one in group.snapshots} == {8 * MIB}
    assert group_until_done(calls, "group", volumes[::-1]) == group
    assert get_group(calls, group.group_snapshot_id, ids_of(group)) == group
    for number, volume in enumerate(volumes):
        image_data.write(ceph_dev, image_of(volume), b"new" + str(number).encode())
    assert restored(calls, ceph_dev, group) == of(volumes, b"old")
    alone = calls.delete_snapshot(group.snapshots[0].snapshot_id)
    assert code_of(alone) is grpc.StatusCode.INVALID_ARGUMENT
    for wrong in ([], ids_of(group)[:2], [*ids_of(group), UNKNOWN]):
        assert code_of(get_group(calls, group.group_snapshot_id, wrong)) is grpc.StatusCode.INVALID_ARGUMENT
        assert code_of(delete_group(calls, group.group_snapshot_id, wrong)) is grpc.StatusCode.INVALID_ARGUMENT
    delete_group_until_done(calls, group)
    assert delete_group(calls, group.group_snapshot_id, ids_of(group)) is None
    assert code_of(get_group(calls, group.group_snapshot_id, ids_of(group))) is grpc.StatusCode.NOT_FOUND
    gone = calls.try_create("restored", 0, source=group.snapshots[0])
    assert code_of(gone) is grpc.StatusCode.NOT_FOUND
    for volume in volumes:
        calls.delete_until_done(volume.volume_id)


def test_members_are_listed_with_their_group_and_explained(calls: Calls, ceph_dev: DevCeph) -> None:
    volumes = volumes_with(calls, ceph_dev, b"old")
    group = group_until_done(calls, "listed", volumes)
    assert audit(ceph_dev) == {}
    listed = calls.driver.controller.ListSnapshots(pb.ListSnapshotsRequest()).entries
    assert {one.snapshot.snapshot_id: one.snapshot for one in listed} == {
        one.snapshot_id: one for one in group.snapshots
    }
    delete_group_until_done(calls, group)
    for volume in volumes:
        calls.delete_until_done(volume.volume_id)


def test_a_group_may_span_pools(calls: Calls, ceph_dev: DevCeph) -> None:
    volumes = [calls.create("here", 8 * MIB), calls.create("there", 8 * MIB, parameters={"pool": "second"})]
    for number, volume in enumerate(volumes):
        pool = volume.volume_context["pool"]
        image_data.write(ceph_dev, image_of(volume), b"old" + str(number).encode(), pool=pool)
    group = group_until_done(calls, "wide", volumes, {"pool": "second"})
    assert restored(calls, ceph_dev, group) == of(volumes, b"old")
    delete_group_until_done(calls, group)
    for volume in volumes:
        calls.delete_until_done(volume.volume_id)
    assert leftovers(ceph_dev, Place("second")) == frozenset()


def test_a_group_may_lie_in_a_rados_namespace(shared_driver: DriverProcess, ceph_dev: DevCeph) -> None:
    calls = Calls(shared_driver.rpc, ceph_dev.secrets("ns"), {"clusterID": "dev-ns", "pool": "second"})
    volumes = [calls.create(f"apart-{number}", 8 * MIB) for number in range(2)]
    group = group_until_done(calls, "apart", volumes)
    copy = calls.create_until_done("apart-copy", 0, source=group.snapshots[0])
    place = Place("second", "ns")
    told = ceph_dev.rbd("info", f"{place}/{image_of(copy)}")
    assert f"parent: {place}/{image_of(volumes[0])}@" in told or f"parent: {place}/{image_of(volumes[1])}@" in told
    delete_group_until_done(calls, group)
    for volume in (*volumes, copy):
        calls.delete_until_done(volume.volume_id)
    assert leftovers(ceph_dev, place) == frozenset()


def test_a_volume_that_is_deleted_first_stays_for_its_group(calls: Calls, ceph_dev: DevCeph) -> None:
    """And a copy of the member for longer than the group."""
    volumes = volumes_with(calls, ceph_dev, b"old")
    group = group_until_done(calls, "survives", volumes)
    for volume in volumes:
        calls.delete_until_done(volume.volume_id)
    assert restored(calls, ceph_dev, group) == of(volumes, b"old")
    copy = calls.create_until_done("outlives", 0, source=group.snapshots[0])
    delete_group_until_done(calls, group)
    assert image_data.read(ceph_dev, image_of(copy), 3) == b"old"
    calls.delete_until_done(copy.volume_id)


def test_a_name_that_is_taken_by_other_volumes_is_refused(calls: Calls, ceph_dev: DevCeph) -> None:
    volumes = volumes_with(calls, ceph_dev, b"old", 3)
    group = group_until_done(calls, "taken", volumes[:2])
    for other in (volumes, volumes[1:]):
        assert code_of(try_group(calls, "taken", other)) is grpc.StatusCode.ALREADY_EXISTS
    prefix = {"volumeGroupNamePrefix": "other-"}
    assert code_of(try_group(calls, "taken", volumes[:2], prefix)) is grpc.StatusCode.ALREADY_EXISTS
    delete_group_until_done(calls, group)
    for volume in volumes:
        calls.delete_until_done(volume.volume_id)


def test_a_volume_without_exclusive_lock_has_no_moment_in_common(calls: Calls) -> None:
    plain = calls.create("plain", 8 * MIB, parameters={"imageFeatures": "layering"})
    other = calls.create("locked", 8 * MIB)
    answer = try_group(calls, "refused", [plain, other])
    assert isinstance(answer, Refusal)
    assert (answer.code, "exclusive-lock" in answer.message) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    for volume in (plain, other):
        calls.delete_until_done(volume.volume_id)


def test_a_volume_that_does_not_exist_refuses_all(calls: Calls) -> None:
    volume = calls.create("real", 8 * MIB)
    answer = try_group(calls, "refused", [volume, pb.Volume(volume_id=UNKNOWN)])
    assert code_of(answer) is grpc.StatusCode.NOT_FOUND
    calls.delete_until_done(volume.volume_id)


def test_a_volume_that_was_left_in_a_group_is_taken_out_and_deleted(
    calls: Calls, ceph_dev: DevCeph, pool: Pool
) -> None:
    (volume,) = volumes_with(calls, ceph_dev, b"old", 1)
    pool.groups.create("somebody's")
    pool.groups.add("somebody's", pool, image_of(volume))
    calls.delete_until_done(volume.volume_id)
    image_id = volume.volume_context["imageName"]
    await_that(lambda: all(one.name != image_id for one in pool.images.list_trash()), "the image is purged")
    pool.groups.remove("somebody's")


CREATE_POINTS = ("groups.add:after", "groups.cut:after", "journal.begin_complete:after")
"""All points, one by one: tests/simulation/test_groups.py. Here those where librbd leaves something of its own."""

DELETE_POINTS = ("journal.mark_deleting:after", "groups.remove_snap:after", "journal.release_name:after")


@pytest.fixture
def dying(ceph_dev: DevCeph, start_driver: StartDriver) -> DriverProcess:
    return start_driver("--controller", clusters=ceph_dev.config_json)


@pytest.mark.parametrize("point", CREATE_POINTS)
def test_a_group_cut_short_is_finished_by_the_repeated_call(
    ceph_dev: DevCeph, dying: DriverProcess, point: str
) -> None:
    calls = Calls(dying.rpc, ceph_dev.secrets("provisioner"))
    volumes = volumes_with(calls, ceph_dev, b"old")
    dying.stop()
    dying.restart({"RBD_CSI_FAILPOINTS": f"{point}=kill"})
    try_group(calls, "group", volumes)
    dying.await_death()
    dying.restart({})
    group = group_until_done(calls, "group", volumes)
    assert group_until_done(calls, "group", volumes) == group
    assert restored(calls, ceph_dev, group) == of(volumes, b"old")
    delete_group_until_done(calls, group)
    for volume in volumes:
        calls.delete_until_done(volume.volume_id)


@pytest.mark.parametrize("point", DELETE_POINTS)
def test_a_delete_of_a_group_cut_short_is_finished(ceph_dev: DevCeph, dying: DriverProcess, point: str) -> None:
    calls = Calls(dying.rpc, ceph_dev.secrets("provisioner"))
    volumes = volumes_with(calls, ceph_dev, b"old")
    group = group_until_done(calls, "group", volumes)
    copy = calls.create_until_done("copy", 0, source=group.snapshots[0])
    dying.stop()
    dying.restart({"RBD_CSI_FAILPOINTS": f"{point}=kill"})
    delete_group(calls, group.group_snapshot_id, ids_of(group))
    dying.await_death()
    dying.restart({})
    delete_group_until_done(calls, group)
    again = group_until_done(calls, "group", volumes)
    assert again.group_snapshot_id != group.group_snapshot_id
    assert image_data.read(ceph_dev, image_of(copy), 3) == b"old"
    delete_group_until_done(calls, again)
    for volume in (*volumes, copy):
        calls.delete_until_done(volume.volume_id)


@pytest.mark.parametrize("point", ["groups.add:after", "groups.cut:before"])
def test_a_maker_paused_and_overtaken_harms_nothing(
    ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool, point: str
) -> None:
    secrets = ceph_dev.secrets("provisioner")
    slow = start_driver("--controller", clusters=ceph_dev.config_json, node_id="node-2")
    quick = start_driver("--controller", clusters=ceph_dev.config_json)
    slow_calls, quick_calls = Calls(slow.rpc, secrets), Calls(quick.rpc, secrets)
    volumes = volumes_with(slow_calls, ceph_dev, b"old")
    slow.stop()
    slow.restart({"RBD_CSI_FAILPOINTS": f"{point}=stop"})
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(try_group, slow_calls, "group", volumes)
        slow.await_pause()
        _let_grace_time_pass(pool, "group")
        group = group_until_done(quick_calls, "group", volumes)
        slow.resume()
        answer = late.result(60)
    assert answer.code in UNFINISHED if isinstance(answer, Refusal) else answer == group
    assert group_until_done(slow_calls, "group", volumes) == group
    assert restored(quick_calls, ceph_dev, group) == of(volumes, b"old")
    delete_group_until_done(quick_calls, group)
    for volume in volumes:
        quick_calls.delete_until_done(volume.volume_id)


def test_a_volume_deleted_while_its_group_is_cut_takes_the_group_along(
    ceph_dev: DevCeph, start_driver: StartDriver
) -> None:
    secrets = ceph_dev.secrets("provisioner")
    slow = start_driver("--controller", clusters=ceph_dev.config_json, node_id="node-2")
    quick = start_driver("--controller", clusters=ceph_dev.config_json)
    slow_calls, quick_calls = Calls(slow.rpc, secrets), Calls(quick.rpc, secrets)
    volumes = volumes_with(slow_calls, ceph_dev, b"old")
    slow.stop()
    slow.restart({"RBD_CSI_FAILPOINTS": "groups.cut:before=stop"})
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(try_group, slow_calls, "group", volumes)
        slow.await_pause()
        quick_calls.delete_until_done(volumes[0].volume_id)
        slow.resume()
        answer = late.result(60)
    assert isinstance(answer, Refusal)
    while isinstance(answer, Refusal) and answer.code in UNFINISHED:
        answer = try_group(slow_calls, "group", volumes)
    assert code_of(answer) is grpc.StatusCode.NOT_FOUND
    quick_calls.delete_until_done(volumes[1].volume_id)


def _let_grace_time_pass(pool: Pool, name: str) -> None:
    uuid = pool.objects.read_key(GROUPS.directory("default"), GROUPS.name_key(name))
    if uuid and pool.objects.read(GROUPS.object(uuid)) is not None:
        pool.objects.apply(GROUPS.object(uuid), Write(compare={"state": "making"}, put={"made_at": "0"}))


KILLS = int(os.environ.get("RBD_CSI_GROUP_KILLS", "3"))


def test_kills_at_any_moment_of_a_cut_end_with_whole_groups(ceph_dev: DevCeph, dying: DriverProcess) -> None:
    """Also within librbd's own work, of which a kill leaves a part."""
    calls = Calls(dying.rpc, ceph_dev.secrets("provisioner"))
    volumes = volumes_with(calls, ceph_dev, b"old")
    for number in range(KILLS):
        with ThreadPoolExecutor(1) as thread:
            begun = thread.submit(try_group, calls, f"killed-{number}", volumes)
            time.sleep(0.02 + 0.4 * number / KILLS)
            dying.kill()
            begun.result(60)
        dying.restart({})
        group = group_until_done(calls, f"killed-{number}", volumes)
        assert restored(calls, ceph_dev, group) == of(volumes, b"old")
        delete_group_until_done(calls, group)
    for volume in volumes:
        calls.delete_until_done(volume.volume_id)
