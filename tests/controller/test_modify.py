"""ControllerModifyVolume and the mutable parameters of CreateVolume: what is kept, what the image is told, and crashes."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from csi_driver.ceph.api import Pool
from csi_driver.dev.layout import DevCeph
from csi_driver.journal import layout
from csi_driver.journal.layout import VOLUMES
from csi_driver.pb import csi_pb2 as pb
from tests.client import Refusal
from tests.controller.calls import UNFINISHED, Calls, handle_parts
from tests.controller.keeping import await_that
from tests.controller.test_copies import image_of
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver

pytestmark = pytest.mark.usefixtures("clean_pool")

MIB, GIB = 1 << 20, 1 << 30


def settings(pool: Pool, volume: pb.Volume) -> dict[str, str]:
    """The image's limits, by the part of their names that differs."""
    found = pool.images.get_metadata(image_of(volume))
    return {key.removeprefix("conf_rbd_qos_"): value for key, value in found.items() if key.startswith("conf_")}


def keys(pool: Pool, volume: pb.Volume) -> dict[str, str]:
    found = pool.objects.read(VOLUMES.object(handle_parts(volume.volume_id)[2]))
    assert found is not None
    return found


def test_keys_that_are_left_out_stay_and_zero_takes_a_limit_away(calls: Calls, pool: Pool) -> None:
    volume = calls.create("changed", GIB, mutable={"baseIops": "100", "burstIops": "300"})
    assert settings(pool, volume) == {"iops_limit": "100", "iops_burst": "300"}
    assert calls.modify(volume.volume_id, baseReadBps="1048576") is None
    assert settings(pool, volume) == {"iops_limit": "100", "iops_burst": "300", "read_bps_limit": "1048576"}
    assert calls.modify(volume.volume_id, baseIops="0", burstIops="0", maxWriteIops="7") is None
    assert settings(pool, volume) == {"read_bps_limit": "1048576", "write_iops_limit": "7"}
    assert calls.modify(volume.volume_id, baseReadBps="0", maxWriteIops="0") is None
    assert settings(pool, volume) == {}
    calls.delete_until_done(volume.volume_id)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"baseIops": "50", "iops": "9"}, "iops"),
        ({"baseIops": "50", "maxBps": "fast"}, "fast"),
        ({"baseIops": "50", "burstIops": "49"}, "burstIops"),
        ({"baseIops": "50", "maxIops": "49"}, "maxIops"),
        ({"baseIops": "50", "softCloneDepth": "7", "hardCloneDepth": "3"}, "softCloneDepth"),
        ({"baseIops": "50", "trashRetention": "a while"}, "a while"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_bad_key_or_value_refuses_all(calls: Calls, pool: Pool, change: dict[str, str], names: str) -> None:
    volume = calls.create("unchanged", GIB, mutable={"baseIops": "100"})
    before = (keys(pool, volume), settings(pool, volume))
    answer = calls.modify(volume.volume_id, **change)
    assert answer is not None
    assert (answer.code, names in answer.message) == (grpc.StatusCode.INVALID_ARGUMENT, True), answer.message
    assert (keys(pool, volume), settings(pool, volume)) == before
    refused = calls.try_create("refused", GIB, mutable=change)
    assert isinstance(refused, Refusal)
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    calls.delete_until_done(volume.volume_id)


def test_limits_are_set_whichever_mounter_the_class_names(calls: Calls, pool: Pool) -> None:
    volume = calls.create("by-kernel", GIB, parameters={"mounter": "rbd"}, mutable={"maxIops": "9"})
    assert settings(pool, volume) == {"iops_limit": "9"}
    assert calls.modify(volume.volume_id, maxIops="8") is None
    assert settings(pool, volume) == {"iops_limit": "8"}
    calls.delete_until_done(volume.volume_id)


def test_a_rate_per_gib_follows_the_size(calls: Calls, pool: Pool) -> None:
    rates = {"baseIops": "100", "iopsPerGiB": "10", "maxIops": "130", "baseVolSizeBytes": str(GIB), "bpsPerGiB": "5000"}
    volume = calls.create("growing", 2 * GIB, mutable=rates)
    assert settings(pool, volume) == {"iops_limit": "110", "bps_limit": "5000"}
    assert calls.expand(volume.volume_id, 3 * GIB) == 3 * GIB
    assert settings(pool, volume) == {"iops_limit": "120", "bps_limit": "10000"}
    assert calls.expand(volume.volume_id, 9 * GIB) == 9 * GIB
    assert settings(pool, volume) == {"iops_limit": "130", "bps_limit": "40000"}
    calls.delete_until_done(volume.volume_id)


def test_a_copy_has_its_own_limits_and_none_of_its_source(calls: Calls, pool: Pool) -> None:
    source = calls.create("limited", GIB, mutable={"baseIops": "100", "burstIops": "200", "baseBps": "9000"})
    snapshot = calls.snapshot("of-limited", source.volume_id)
    free = calls.create("free", GIB, source=snapshot)
    other = calls.create("other", GIB, source=source, mutable={"maxBps": "5000"})
    assert (settings(pool, free), settings(pool, other)) == ({}, {"bps_limit": "5000"})
    assert calls.modify(free.volume_id, maxIops="5") is None
    assert settings(pool, free) == {"iops_limit": "5"}
    assert settings(pool, source) == {"iops_limit": "100", "iops_burst": "200", "bps_limit": "9000"}
    for volume in (free, other, source):
        calls.delete_until_done(volume.volume_id)
    calls.delete_snapshot_until_done(snapshot.snapshot_id)


def test_a_copy_is_not_told_to_be_its_sources_claim(calls: Calls, pool: Pool) -> None:
    of, claim = "csi.storage.k8s.io/pvc/namespace", "csi.storage.k8s.io/pvc/name"
    source = calls.create("claimed", 8 * MIB, parameters={of: "shop", claim: "db"})
    other = calls.create("other-claim", 8 * MIB, source=source, parameters={claim: "copy"})
    unclaimed = calls.create("unclaimed", 8 * MIB, source=source)
    assert pool.images.get_metadata(image_of(source)) == {of: "shop", claim: "db"}
    assert pool.images.get_metadata(image_of(other)) == {claim: "copy"}
    assert pool.images.get_metadata(image_of(unclaimed)) == {}
    for volume in (other, unclaimed, source):
        calls.delete_until_done(volume.volume_id)


def test_a_create_repeated_with_other_mutable_parameters_finds_its_volume_as_it_is(calls: Calls, pool: Pool) -> None:
    """They are no part of what makes a request another one (CSI: CreateVolume, ALREADY_EXISTS)."""
    volume = calls.create("repeated", GIB, mutable={"maxIops": "10"})
    assert calls.create("repeated", GIB, mutable={"maxIops": "20"}).volume_id == volume.volume_id
    assert settings(pool, volume) == {"iops_limit": "10"}
    calls.delete_until_done(volume.volume_id)


def test_a_retention_set_later_keeps_the_deleted_volume(calls: Calls, pool: Pool) -> None:
    """And what is set wins over the class."""
    kept = calls.create("kept", 8 * MIB)
    assert calls.modify(kept.volume_id, trashRetention="3s") is None
    gone = calls.create("gone", 8 * MIB, parameters={"trashRetention": "1h"}, mutable={"trashRetention": "0"})
    for volume in (kept, gone):
        calls.delete_until_done(volume.volume_id)
    uuid = handle_parts(kept.volume_id)[2]
    entry = pool.objects.read(VOLUMES.object(uuid))
    assert entry is not None
    assert (entry[layout.STATE], float(entry[layout.KEPT_UNTIL]) > 0) == ("trashed", True)
    await_that(
        lambda: pool.objects.read(VOLUMES.object(handle_parts(gone.volume_id)[2])) is None, "the other is purged"
    )


def test_a_policy_set_later_has_a_copy_flattened(calls: Calls, pool: Pool) -> None:
    source = calls.create("deep", 8 * MIB)
    copy = calls.create("copy", 8 * MIB, source=source, parameters={"flatten": "never"})
    assert pool.images.inspect(image_of(copy)).has_parent
    assert calls.modify(copy.volume_id, flatten="always") is None
    await_that(lambda: not pool.images.inspect(image_of(copy)).has_parent, "the copy is flattened")
    for volume in (copy, source):
        calls.delete_until_done(volume.volume_id)


def test_what_does_not_exist_is_not_changed(calls: Calls) -> None:
    volume = calls.create("short-lived", 8 * MIB)
    calls.delete_until_done(volume.volume_id)
    answer = calls.modify(volume.volume_id, maxIops="5")
    assert answer is not None
    assert answer.code is grpc.StatusCode.NOT_FOUND


POINTS = ("journal.record_mutable:after", "images.read_mark:after", "images.write_metadata:after")


@pytest.fixture
def crashing(ceph_dev: DevCeph, start_driver: StartDriver) -> DriverProcess:
    return start_driver("--controller", clusters=ceph_dev.config_json)


@pytest.mark.parametrize("point", POINTS)
def test_a_change_cut_short_is_finished_by_the_repeated_call(
    ceph_dev: DevCeph, crashing: DriverProcess, pool: Pool, point: str
) -> None:
    calls = Calls(crashing.rpc, ceph_dev.secrets("provisioner"))
    volume = calls.create_until_done("cut-short", GIB, mutable={"baseIops": "10", "bpsPerGiB": "1000"})
    crashing.stop()
    crashing.restart({"RBD_CSI_FAILPOINTS": f"{point}=kill"})
    calls.modify(volume.volume_id, baseIops="20", burstIops="30")
    crashing.await_death()
    crashing.restart({})
    calls.modify_until_done(volume.volume_id, baseIops="20", burstIops="30")
    assert settings(pool, volume) == {"iops_limit": "20", "iops_burst": "30", "bps_limit": "1000"}
    calls.delete_until_done(volume.volume_id)


@pytest.mark.parametrize(
    "point", ["journal.record_size:after", "images.write_metadata:before", "images.announce:before"]
)
def test_an_expansion_cut_short_before_its_limits_is_finished(
    ceph_dev: DevCeph, crashing: DriverProcess, pool: Pool, point: str
) -> None:
    calls = Calls(crashing.rpc, ceph_dev.secrets("provisioner"))
    volume = calls.create_until_done("cut-short", GIB, mutable={"iopsPerGiB": "10"})
    crashing.stop()
    crashing.restart({"RBD_CSI_FAILPOINTS": f"{point}=kill"})
    calls.expand(volume.volume_id, 2 * GIB)
    crashing.await_death()
    crashing.restart({})
    while isinstance(answer := calls.expand(volume.volume_id, 2 * GIB), Refusal):
        assert answer.code in UNFINISHED, answer
    assert settings(pool, volume) == {"iops_limit": "20"}
    calls.delete_until_done(volume.volume_id)


@pytest.mark.parametrize("point", POINTS)
def test_a_change_paused_and_overtaken_loses(
    ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool, point: str
) -> None:
    """What it still writes comes late: the settings are those of the newer change."""
    secrets = ceph_dev.secrets("provisioner")
    slow = start_driver("--controller", clusters=ceph_dev.config_json, node_id="node-2")
    quick = start_driver("--controller", clusters=ceph_dev.config_json)
    volume = Calls(slow.rpc, secrets).create_until_done("overtaken", GIB, mutable={"baseIops": "10"})
    slow.stop()
    slow.restart({"RBD_CSI_FAILPOINTS": f"{point}=stop"})
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(Calls(slow.rpc, secrets).modify, volume.volume_id, baseIops="20", burstIops="25")
        slow.await_pause()
        Calls(quick.rpc, secrets).modify_until_done(volume.volume_id, baseIops="30", burstIops="35")
        slow.resume()
        answer = late.result(60)
    assert answer is None or answer.code in UNFINISHED
    assert settings(pool, volume) == {"iops_limit": "30", "iops_burst": "35"}
    assert '"baseIops": 30' in keys(pool, volume)[layout.MUTABLE]
    Calls(quick.rpc, secrets).delete_until_done(volume.volume_id)
