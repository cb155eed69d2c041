"""Clones that a snap goes on to list though they read nothing of it any more: their parents go all the same."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from csi_driver.ceph.api import Pool
from csi_driver.pb import csi_pb2 as pb
from tests.controller.calls import Calls, handle_parts

pytestmark = pytest.mark.usefixtures("clean_pool")

MIB = 1 << 20
_PAIRS = 3


@pytest.fixture(params=["1", "2"], ids=["format 1", "format 2"])
def shallow(request: pytest.FixtureRequest, calls: Calls) -> Calls:
    """Volumes without deep-flatten, whose snapshots read through to the parent when they themselves are flat."""
    layout = {"imageFeatures": "layering", "cloneFormat": request.param, "flatten": "never"}
    return Calls(calls.driver, calls.secrets, {**calls.parameters, **layout})


def test_snapshots_of_flat_copies_that_are_deleted_at_once_leave_nothing(shallow: Calls, pool: Pool) -> None:
    """librbd 16.2 takes the copy off its parent's list by neither of the two removals: each still sees the other's snap."""
    source = shallow.create("source", 8 * MIB)
    cut = shallow.snapshot("cut", source.volume_id)
    copies = [shallow.create(f"copy-{number}", 8 * MIB, source=cut) for number in range(_PAIRS)]
    copies += [shallow.create(f"clone-{number}", 8 * MIB, source=source) for number in range(_PAIRS)]
    with ThreadPoolExecutor(2) as threads:
        for copy in copies:
            pair = [shallow.snapshot(f"{copy.volume_id}-{number}", copy.volume_id) for number in range(2)]
            pool.images.flatten(_image_id(pool, copy), lambda _part: True)
            list(threads.map(shallow.delete_snapshot_until_done, [one.snapshot_id for one in pair]))
    _delete(shallow, cut, *copies, source)


def test_a_copy_without_its_link_holds_nothing(shallow: Calls, pool: Pool) -> None:
    """As such a pair leaves it, of a librbd that always does."""
    source = shallow.create("source", 8 * MIB)
    cut = shallow.snapshot("cut", source.volume_id)
    copies = [shallow.create("copy", 8 * MIB, source=cut), shallow.create("clone", 8 * MIB, source=source)]
    for copy in copies:
        pool.ancestry.drop_parent(_image_id(pool, copy))
    _delete(shallow, cut, source, *copies)


def _image_id(pool: Pool, volume: pb.Volume) -> str:
    return pool.images.find_id(f"csi-vol-{handle_parts(volume.volume_id)[2]}") or ""


def _delete(calls: Calls, snapshot: pb.Snapshot, *volumes: pb.Volume) -> None:
    """`clean_pool` looks for the end."""
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    for volume in volumes:
        calls.delete_until_done(volume.volume_id)
