"""What each call asks of Ceph: opens of images and their changes, counted from the driver's own steps."""

import re
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from csi_driver.ceph.api import Pool
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests.client import Refusal
from tests.controller.calls import Calls
from tests.controller.keeping import await_that
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver

pytestmark = pytest.mark.usefixtures("clean_pool")

_STEP = re.compile(r"event=step call=(\S+) .*step=(images\.\w+)")

_TRIES = 3
"""Each counted for itself: Ceph commits maps of its own, for snaps that were trimmed."""


@pytest.fixture
def told(ceph_dev: DevCeph, start_driver: StartDriver) -> DriverProcess:
    return start_driver("--controller", "--log-level", "debug", clusters=ceph_dev.config_json)


@pytest.fixture
def calls(ceph_dev: DevCeph, told: DriverProcess) -> Calls:
    return Calls(told.rpc, ceph_dev.secrets("provisioner"))


def images_steps(told: DriverProcess, call: Callable[[], object]) -> dict[str, int]:
    """The steps on images that one RPC made; what goes on behind the answers has other call ids."""
    before = len(told.log_text())
    assert not isinstance(call(), Refusal)
    text = told.log_text()[before:]
    ids = re.findall(r"event=request call=(\S+)", text)
    assert len(ids) == 1, "one RPC was expected"
    return dict(Counter(step for call_id, step in _STEP.findall(text) if call_id == ids[0]))


def osd_map(ceph: DevCeph) -> int:
    """The epoch of the OSD map: a snap's id is given out in a commit of its own, and nothing else here makes one."""
    found = re.search(r"^epoch (\d+)$", ceph.ceph("osd", "dump"), re.MULTILINE)
    assert found
    return int(found[1])


def test_a_volume_costs_one_image_and_its_repetition_nothing(told: DriverProcess, calls: Calls) -> None:
    calls.create("warms-up-the-connection")
    assert images_steps(told, lambda: calls.create("plain")) == {"images.create": 1}
    volumes = [calls.create("warms-up-the-connection"), calls.create("plain")]
    assert images_steps(told, lambda: calls.create("plain")) == {}
    for volume in volumes:
        assert images_steps(told, partial(calls.delete, volume.volume_id)) == {
            "images.inspect": 1,
            "images.move_to_trash": 1,
        }
        assert images_steps(told, partial(calls.delete, volume.volume_id)) == {}


def test_a_snapshot_costs_one_open_and_one_commit_and_its_repetition_nothing(
    told: DriverProcess, calls: Calls, ceph_dev: DevCeph
) -> None:
    volume = calls.create("source")
    cuts = [partial(calls.snapshot, f"snap-{number}", volume.volume_id) for number in range(_TRIES)]
    commits = []
    for cut in cuts:
        before = osd_map(ceph_dev)
        assert images_steps(told, cut) == {"images.cut": 1}
        commits.append(osd_map(ceph_dev) - before)
    assert min(commits) == 1
    for cut in cuts:
        delete = partial(calls.delete_snapshot, cut().snapshot_id)
        assert images_steps(told, cut) == {}
        assert images_steps(told, delete) == {"images.remove_snap": 1}
    calls.delete_until_done(volume.volume_id)


def test_a_restore_costs_one_clone(told: DriverProcess, calls: Calls, ceph_dev: DevCeph) -> None:
    volume = calls.create("source")
    snapshot = calls.snapshot("snap", volume.volume_id)
    commits, restored = [], list[pb.Volume]()

    def restore() -> None:
        restored.append(calls.create(f"restored-{len(restored)}", 0, source=snapshot))

    for _ in range(_TRIES):
        before = osd_map(ceph_dev)
        assert images_steps(told, restore) == {
            "images.clone": 1,
            "images.create": 1,
            "images.adopt": 1,
        }
        commits.append(osd_map(ceph_dev) - before)
    assert min(commits) == 0
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    for one in (volume, *restored):
        calls.delete_until_done(one.volume_id)


def test_a_clone_of_a_volume_costs_one_snap_one_clone_and_the_snap_s_removal(told: DriverProcess, calls: Calls) -> None:
    volume = calls.create("source")
    assert images_steps(told, lambda: calls.create("clone", 0, source=volume)) == {
        "images.cut": 1,
        "images.clone": 1,
        "images.create": 1,
        "images.adopt": 1,
        "images.remove_snap": 1,
    }
    for one in (calls.create("clone", 0, source=volume), volume):
        calls.delete_until_done(one.volume_id)


def test_growing_costs_one_open(told: DriverProcess, calls: Calls) -> None:
    volume = calls.create("grows")
    assert images_steps(told, lambda: calls.expand(volume.volume_id, 2 * volume.capacity_bytes)) == {"images.grow": 1}
    calls.delete_until_done(volume.volume_id)


def test_the_purge_opens_nothing_that_rests_or_waits(told: DriverProcess, calls: Calls, pool: Pool) -> None:
    """A deleted volume with snapshots, and a deleted snapshot with a clone of format 1: looked at with each purge."""
    source = calls.create("source")
    kept, held = (calls.snapshot(name, source.volume_id) for name in ("kept", "held"))
    copy = calls.create("copy", 0, source=held, parameters={"cloneFormat": "1"})
    kept_of_copy = calls.snapshot("kept-of-copy", copy.volume_id)
    calls.delete_snapshot(held.snapshot_id)
    calls.delete(copy.volume_id)
    calls.delete(source.volume_id)
    names = [f"csi-vol-{volume.volume_id[-36:]}" for volume in (source, copy)]
    resting = [*names, *(pool.images.find_id(name) or "" for name in names)]
    for _ in range(2):  # one of them is shrunk, which the look that purges the first may have come to after it
        purge(told, calls)
    before = len(told.log_text())
    purge(told, calls)
    touched = re.findall(r"step=images\.\w+ of=(\S+)", told.log_text()[before:])
    assert touched
    assert not [one for one in touched if one.startswith(tuple(resting))]
    for snapshot in (kept, kept_of_copy):
        calls.delete_snapshot_until_done(snapshot.snapshot_id)


def purge(told: DriverProcess, calls: Calls) -> None:
    """One more volume, so that the pool is looked through, until it is gone and nothing was left to do."""
    ended = told.log_text().count("step=images.purge")
    calls.delete(calls.create(f"purged-{ended}").volume_id)
    await_that(lambda: told.log_text().count("step=images.purge") > ended, "a purge", within_s=30)
