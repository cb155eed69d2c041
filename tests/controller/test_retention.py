"""`trashRetention`: volumes that are kept after their delete, for their time and not longer."""

import time

import pytest

from csi_driver.ceph.api import Pool
from csi_driver.dev.layout import DevCeph
from tests.controller.calls import Calls
from tests.controller.keeping import DATA, MIB, Keeping, await_that
from tests.fixtures.driver import StartDriver

pytestmark = pytest.mark.usefixtures("clean_pool")


@pytest.fixture
def keeping(ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool) -> Keeping:
    driver = start_driver("--controller", clusters=ceph_dev.config_json)
    return Keeping(driver, Calls(driver.rpc, ceph_dev.secrets("provisioner")), ceph_dev, pool)


def test_a_kept_volume_comes_back_with_its_data_under_its_handle_and_name(keeping: Keeping) -> None:
    volume = keeping.create("kept")
    assert keeping.listed() == []
    before = time.time()
    assert keeping.calls.delete(volume.volume_id) is None
    assert keeping.calls.delete(volume.volume_id) is None
    assert 3600 <= keeping.kept_until(volume) - before < 3600 + 60
    keeping.let_purge_pass()
    keeping.ceph.rbd("trash", "purge", "--no-progress", "rbd")
    assert keeping.row("kept", volume) == "– O T trashed D"
    (line,) = keeping.listed()
    assert line.split()[:4] == [volume.volume_id, "kept", "8", "MiB"]
    ended = keeping.undelete(volume)
    assert (ended.code, ended.out, ended.err) == (0, f"{volume.volume_id}: brought back\n", "")
    assert keeping.row("kept", volume) == "K O I complete"
    assert keeping.reads(volume) == DATA
    assert keeping.listed() == []
    assert keeping.calls.create("kept", 8 * MIB, parameters={"trashRetention": "0"}) == volume, "no other request"
    again = keeping.undelete(volume)
    assert (again.code, again.out) == (0, f"{volume.volume_id}: is not deleted\n")
    assert keeping.calls.delete(volume.volume_id) is None
    assert keeping.kept_until(volume) > before + 3600, "the second delete keeps it for the whole time anew"
    assert keeping.undelete(volume).code == 0
    keeping.delete_for_good(volume)


def test_a_volume_with_snapshots_keeps_its_size_and_comes_back(keeping: Keeping) -> None:
    volume = keeping.create("snapped")
    snapshot = keeping.calls.snapshot("snap", volume.volume_id)
    keeping.calls.delete_until_done(volume.volume_id)
    keeping.let_purge_pass()
    assert keeping.row("snapped", volume) == "– O I tombstone D"
    assert keeping.pool.images.inspect(volume.volume_context["imageName"]).size_bytes == 8 * MIB
    assert keeping.undelete(volume).code == 0
    assert keeping.row("snapped", volume) == "K O I complete"
    assert keeping.reads(volume) == DATA
    restored = keeping.calls.create_until_done("restored", 0, source=snapshot)
    assert keeping.reads(restored) == DATA
    keeping.calls.delete_until_done(restored.volume_id)
    keeping.calls.delete_snapshot_until_done(snapshot.snapshot_id)
    keeping.delete_for_good(volume)


def test_with_its_last_snapshot_a_volume_goes_to_the_trash_for_the_rest_of_its_time(keeping: Keeping) -> None:
    volume = keeping.create("rest")
    snapshot = keeping.calls.snapshot("snap", volume.volume_id)
    keeping.calls.delete_until_done(volume.volume_id)
    until = keeping.kept_until(volume)
    keeping.calls.delete_snapshot_until_done(snapshot.snapshot_id)
    await_that(lambda: keeping.row("rest", volume) == "– O T trashed D", "the image is in the trash")
    assert until <= keeping.kept_until(volume) <= until + 2
    assert keeping.undelete(volume).code == 0
    assert keeping.reads(volume) == DATA
    keeping.delete_for_good(volume)


def test_a_volume_is_purged_when_its_time_is_over_and_no_call_is_made(keeping: Keeping) -> None:
    volume = keeping.create("short", "2s")
    assert keeping.calls.delete(volume.volume_id) is None
    answered = time.time()
    until = keeping.kept_until(volume)
    keeping.await_gone(volume)
    assert answered + 1 < until <= time.time()
    ended = keeping.undelete(volume)
    assert (ended.code, ended.out) == (1, "")
    assert "was purged" in ended.err


def test_a_volume_with_snapshots_is_shrunk_when_its_time_is_over(keeping: Keeping) -> None:
    volume = keeping.create("shrinks", "2s")
    snapshot = keeping.calls.snapshot("snap", volume.volume_id)
    keeping.calls.delete_until_done(volume.volume_id)
    image = volume.volume_context["imageName"]
    assert keeping.pool.images.inspect(image).size_bytes == 8 * MIB
    await_that(lambda: keeping.pool.images.inspect(image).size_bytes == 1, "the image is shrunk")
    assert time.time() >= keeping.kept_until(volume)
    ended = keeping.undelete(volume)
    assert ended.code == 1
    assert "only its snapshots are left" in ended.err
    keeping.calls.delete_snapshot_until_done(snapshot.snapshot_id)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restarted_driver_keeps_the_time(keeping: Keeping, end: str) -> None:
    """It takes the pool up with the first call there, and comes back for what is due without another."""
    long, short = keeping.create("long"), keeping.create("short", "4s")
    for volume in (long, short):
        keeping.calls.delete_until_done(volume.volume_id)
    until = keeping.kept_until(short)
    getattr(keeping.driver, end)()
    keeping.driver.restart()
    wakes = keeping.create("wakes-the-pool", "0")
    keeping.await_gone(short)
    assert time.time() >= until
    assert keeping.row("long", long) == "– O T trashed D"
    assert keeping.undelete(long).code == 0
    assert keeping.reads(long) == DATA
    keeping.delete_for_good(long)
    keeping.calls.delete_until_done(wakes.volume_id)


def test_a_copy_that_was_never_handed_out_is_not_kept(keeping: Keeping) -> None:
    """It waits for its flatten, and would come back with a chain that is too long."""
    source = keeping.create("source", "0")
    parameters = {"trashRetention": "1h", "flatten": "lazy", "softCloneDepth": "1", "hardCloneDepth": "1"}
    keeping.driver.stop()
    keeping.driver.restart({"RBD_CSI_FAILPOINTS": "images.flatten:before=kill"})
    keeping.calls.try_create("copy", 0, source=source, parameters=parameters)
    keeping.driver.await_death()
    uuid = keeping.pool.objects.read_key("csi.volumes.default", "csi.volume.copy")
    assert (keeping.pool.objects.read(f"csi.volume.{uuid}") or {})["state"] == "flattening"
    handle = source.volume_id[:-36] + str(uuid)
    keeping.driver.restart({"RBD_CSI_FAILPOINTS": "images.flatten:before=delay:3"})
    keeping.calls.delete_until_done(handle)
    assert "kept_until" not in (keeping.pool.objects.read(f"csi.volume.{uuid}") or {})
    keeping.calls.delete_until_done(source.volume_id)
