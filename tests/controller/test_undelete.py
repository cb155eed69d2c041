"""`rbd-csi volume undelete`: cut short at each step, raced by purges, deletes and creates, overtaken, and refused."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from csi_driver.ceph.api import Pool, Write
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests import volume_command
from tests.client import Refusal
from tests.controller.calls import UNFINISHED, Calls, handle_parts
from tests.controller.keeping import DATA, MIB, Keeping
from tests.fixtures.driver import StartDriver

pytestmark = pytest.mark.usefixtures("clean_pool")

POINTS = {
    "journal.mark_restoring:before": "– O T trashed D",
    "journal.mark_restoring:after": "– O T restoring D",
    "images.restore_from_trash:after": "– O I restoring D",
    "journal.return_name:after": "K O I restoring",
    "journal.complete:after": "K O I complete",
}
POINTS_OF_TOMBSTONE = {
    "journal.mark_restoring:before": "– O I tombstone D",
    "journal.mark_restoring:after": "– O I restoring D",
    "journal.return_name:after": "K O I restoring",
    "journal.complete:after": "K O I complete",
}
SIGKILL = -9


@pytest.fixture
def keeping(ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool) -> Keeping:
    driver = start_driver("--controller", clusters=ceph_dev.config_json)
    return Keeping(driver, Calls(driver.rpc, ceph_dev.secrets("provisioner")), ceph_dev, pool)


def code_of(answer: pb.Volume | Refusal | None) -> grpc.StatusCode:
    assert isinstance(answer, Refusal)
    return answer.code


@pytest.mark.parametrize(("point", "row"), POINTS.items())
def test_an_undelete_that_was_killed_is_finished_by_the_repeated_one(keeping: Keeping, point: str, row: str) -> None:
    volume = keeping.create("crash")
    keeping.calls.delete_until_done(volume.volume_id)
    assert keeping.undelete(volume, f"{point}=kill").code == SIGKILL
    assert keeping.row("crash", volume) == row
    if "restoring" in row:
        assert code_of(keeping.calls.delete(volume.volume_id)) is grpc.StatusCode.ABORTED
        keeping.let_purge_pass()
    if row == "K O I restoring":
        assert code_of(keeping.calls.try_create("crash", 8 * MIB)) is grpc.StatusCode.ABORTED
    assert keeping.row("crash", volume) == row
    assert keeping.undelete(volume).code == 0
    assert keeping.row("crash", volume) == "K O I complete"
    assert keeping.reads(volume) == DATA
    keeping.delete_for_good(volume)


@pytest.mark.parametrize(("point", "row"), POINTS_OF_TOMBSTONE.items())
def test_an_undelete_of_a_volume_with_snapshots_that_was_killed_is_finished(
    keeping: Keeping, point: str, row: str
) -> None:
    """Also when the last snapshot goes in between."""
    volume = keeping.create("crash")
    snapshot = keeping.calls.snapshot("snap", volume.volume_id)
    keeping.calls.delete_until_done(volume.volume_id)
    assert keeping.undelete(volume, f"{point}=kill").code == SIGKILL
    assert keeping.row("crash", volume) == row
    if "restoring" in row:
        keeping.calls.delete_snapshot_until_done(snapshot.snapshot_id)
        keeping.let_purge_pass()
        assert keeping.row("crash", volume) == row
    assert keeping.undelete(volume).code == 0
    assert keeping.row("crash", volume) == "K O I complete"
    assert keeping.reads(volume) == DATA
    keeping.calls.delete_snapshot_until_done(snapshot.snapshot_id)
    keeping.delete_for_good(volume)


def test_a_volume_whose_name_was_taken_lives_without_it(keeping: Keeping) -> None:
    volume = keeping.create("taken")
    keeping.calls.delete_until_done(volume.volume_id)
    assert keeping.undelete(volume, "images.restore_from_trash:after=kill").code == SIGKILL
    other = keeping.calls.create_until_done("taken", 8 * MIB)
    for said in ("brought back", "is not deleted"):
        ended = keeping.undelete(volume)
        assert ended.code == 0
        assert said in ended.out
        assert "its name 'taken' is another volume's" in ended.out
    keeping.let_purge_pass()
    assert keeping.reads(volume) == DATA
    assert keeping.listed() == []
    assert keeping.calls.create("taken", 8 * MIB) == other
    assert keeping.calls.delete(volume.volume_id) is None
    assert keeping.state(volume) == "trashed"
    assert keeping.undelete(volume).code == 0
    keeping.delete_for_good(volume)
    assert keeping.calls.create("taken", 8 * MIB) == other
    keeping.calls.delete_until_done(other.volume_id)


def test_a_purge_that_comes_first_refuses_the_undelete(keeping: Keeping) -> None:
    volume = keeping.create("purged", "2s")
    keeping.driver.stop()
    keeping.driver.restart({"RBD_CSI_FAILPOINTS": "journal.mark_purging:after=stop"})
    keeping.calls.delete_until_done(volume.volume_id)
    keeping.driver.await_pause()
    ended = keeping.undelete(volume)
    assert ended.code == 1
    assert "is being purged" in ended.err
    keeping.driver.resume()
    keeping.await_gone(volume)


def test_an_undelete_that_comes_first_refuses_the_purge(keeping: Keeping) -> None:
    """The purge has read `trashed`, and its claim fails."""
    volume = keeping.create("saved", "2s")
    keeping.driver.stop()
    keeping.driver.restart({"RBD_CSI_FAILPOINTS": "journal.mark_purging:before=stop"})
    keeping.calls.delete_until_done(volume.volume_id)
    keeping.driver.await_pause()
    assert keeping.undelete(volume).code == 0
    keeping.driver.resume()
    keeping.let_purge_pass()
    assert keeping.row("saved", volume) == "K O I complete"
    assert keeping.reads(volume) == DATA
    keeping.delete_for_good(volume)


def test_an_undelete_whose_volume_is_purged_before_its_claim_says_so(keeping: Keeping) -> None:
    volume = keeping.create("late", "3s")
    keeping.calls.delete_until_done(volume.volume_id)
    late = keeping.begin_undelete(volume, "journal.mark_restoring:before=stop")
    late.await_pause()
    keeping.await_gone(volume)
    late.resume()
    ended = late.end()
    assert ended.code == 1
    assert "changed by another process" in ended.err


def test_a_shrink_and_an_undelete_exclude_each_other(keeping: Keeping) -> None:
    volume = keeping.create("shrinks", "2s")
    snapshot = keeping.calls.snapshot("snap", volume.volume_id)
    keeping.driver.stop()
    keeping.driver.restart({"RBD_CSI_FAILPOINTS": "journal.mark_shrunk:before=stop"})
    keeping.calls.delete_until_done(volume.volume_id)
    keeping.driver.await_pause()
    assert keeping.undelete(volume).code == 0
    keeping.driver.resume()
    keeping.let_purge_pass()
    assert keeping.reads(volume) == DATA
    keeping.calls.delete_snapshot_until_done(snapshot.snapshot_id)
    keeping.delete_for_good(volume)


@pytest.mark.parametrize("point", ["images.restore_from_trash:before", "journal.return_name:before"])
def test_an_undelete_paused_and_overtaken_harms_nothing(keeping: Keeping, point: str) -> None:
    """It is cut off by the one that goes on with its work: late, it would take the image from a trash it has come to anew."""
    volume = keeping.create("overtaken")
    keeping.calls.delete_until_done(volume.volume_id)
    slow = keeping.begin_undelete(volume, f"{point}=stop")
    slow.await_pause()
    assert keeping.undelete(volume).code == 0
    keeping.calls.delete_until_done(volume.volume_id)
    slow.resume()
    ended = slow.end()
    assert ended.code == 1
    assert "blocklist" in ended.err
    assert keeping.row("overtaken", volume) == "– O T trashed D"
    assert keeping.undelete(volume).code == 0
    assert keeping.reads(volume) == DATA
    keeping.delete_for_good(volume)


@pytest.mark.parametrize("point", ["journal.mark_deleting:after", "journal.release_name:before"])
def test_a_delete_paused_overtaken_and_undone_takes_nothing_away(
    keeping: Keeping, start_driver: StartDriver, point: str
) -> None:
    """Late, it would move the living image to the trash, or drop its name."""
    slow = start_driver(
        "--controller",
        clusters=keeping.ceph.config_json,
        node_id="slow",
        environment={"RBD_CSI_FAILPOINTS": f"{point}=stop"},
    )
    volume = keeping.create("undone")
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(Calls(slow.rpc, keeping.calls.secrets).delete, volume.volume_id)
        slow.await_pause()
        assert code_of(keeping.calls.delete(volume.volume_id)) is grpc.StatusCode.ABORTED, "the grace time"
        ended = keeping.undelete(volume)
        assert ended.code == 1
        assert "is being deleted" in ended.err
        name = f"csi.volume.{handle_parts(volume.volume_id)[2]}"
        keeping.pool.objects.apply(name, Write(compare={"state": "deleting"}, put={"made_at": "0"}))
        keeping.calls.delete_until_done(volume.volume_id)
        assert keeping.undelete(volume).code == 0
        slow.resume()
        answer = late.result(60)
    assert answer is None or answer.code in UNFINISHED
    assert keeping.row("undone", volume) == "K O I complete"
    assert keeping.reads(volume) == DATA
    keeping.delete_for_good(volume)


def test_a_delete_killed_half_way_keeps_for_the_time_of_its_move(keeping: Keeping) -> None:
    volume = keeping.create("half")
    keeping.driver.stop()
    keeping.driver.restart({"RBD_CSI_FAILPOINTS": "images.move_to_trash:after=kill"})
    keeping.calls.delete(volume.volume_id)
    keeping.driver.await_death()
    assert keeping.row("half", volume) == "K O T deleting"
    image_id = (keeping.keys(volume) or {})["csi.imageid"]
    found = keeping.pool.images.find_trashed(image_id)
    keeping.driver.restart({})
    keeping.calls.delete_until_done(volume.volume_id)
    assert found is not None
    assert keeping.kept_until(volume) == found.kept_until
    assert keeping.undelete(volume).code == 0
    assert keeping.reads(volume) == DATA
    keeping.delete_for_good(volume)


def test_an_image_that_was_purged_past_the_driver_does_not_come_back(keeping: Keeping) -> None:
    volume = keeping.create("forced")
    keeping.calls.delete_until_done(volume.volume_id)
    image_id = (keeping.keys(volume) or {})["csi.imageid"]
    assert keeping.undelete(volume, "journal.mark_restoring:after=kill").code == SIGKILL
    keeping.ceph.rbd("trash", "rm", "--force", "--no-progress", f"rbd/{image_id}")
    ended = keeping.undelete(volume)
    assert ended.code == 1
    assert "is not in the trash any more" in ended.err
    keeping.let_purge_pass()
    keeping.await_gone(volume)


def test_what_cannot_be_brought_back_is_told_in_one_line(ceph_dev: DevCeph, tmp_path: Path) -> None:
    uuid = "11111111-2222-3333-4444-555555555555"
    known, unknown = f"0001-0003-dev-{1:016x}-{uuid}", f"0001-0005-other-{1:016x}-{uuid}"
    no_credentials = tmp_path / "clusters.json"
    entries = json.loads(ceph_dev.config_json.read_text())
    no_credentials.write_text(json.dumps([{key: one[key] for key in ("clusterID", "monitors")} for one in entries]))
    for clusters, arguments, code, said in (
        (ceph_dev.config_json, ("undelete", known), 1, "there never was one"),
        (ceph_dev.config_json, ("undelete", "no-handle"), 2, "'no-handle' is not a volume's handle"),
        (ceph_dev.config_json, ("undelete", unknown), 2, "clusterID 'other' is not in the clusters file"),
        (no_credentials, ("undelete", known), 2, "names no credentials for 'dev'"),
        (tmp_path / "none", ("undelete", known), 2, "No such file"),
        (ceph_dev.config_json, ("deleted", "--instance", "a/b"), 2, "--instance 'a/b'"),
    ):
        ended = volume_command.run(clusters, *arguments)
        assert (ended.code, ended.out) == (code, ""), ended
        assert said in ended.err
        assert ended.err.startswith("rbd-csi: ")
        assert ended.err.count("\n") == 1
    ended = volume_command.run(no_credentials, "deleted")
    assert (ended.code, ended.out.split()) == (0, ["handle", "name", "size", "until"])
    assert "dev: left out" in ended.err
