"""`rbd-csi rebuild` of group snapshots: their entries are gone, the RBD groups stay."""

from pathlib import Path

import pytest

from csi_driver.ceph.api import Pool, Write
from csi_driver.dev.layout import DevCeph
from csi_driver.journal.layout import SNAPSHOTS
from csi_driver.pb import csi_pb2 as pb
from tests.controller.calls import Calls
from tests.controller.group_calls import delete_group_until_done, get_group, group_until_done, ids_of
from tests.controller.kubernetes_objects import group_content, persistent_volume, snapshot_content, write_list
from tests.controller.planting import uuid_of
from tests.controller.test_audit import audit
from tests.controller.test_groups import of, restored, volumes_with
from tests.controller.test_rebuild import acts, lose, rebuild

pytestmark = pytest.mark.usefixtures("empty_pool")

_NAME = "groupsnapshot-1"


class Grouped:
    """Two volumes with data, a snapshot of both, and what Kubernetes knows of them."""

    def __init__(self, ceph: DevCeph, calls: Calls, directory: Path) -> None:
        self._ceph = ceph
        self._calls = calls
        self.volumes = volumes_with(calls, ceph, b"old")
        self.group = group_until_done(calls, _NAME, self.volumes)
        known = [
            *(persistent_volume(f"member-{number}", one) for number, one in enumerate(self.volumes)),
            *(snapshot_content(f"m-{number}", one) for number, one in enumerate(self.group.snapshots)),
            group_content("1", self.group),
        ]
        self.objects = str(write_list(directory / "objects.json", known))

    def use_and_delete(self) -> None:
        """As it was: told, made again, restored and deleted."""
        group = self.group
        assert get_group(self._calls, group.group_snapshot_id, ids_of(group)) == group
        assert group_until_done(self._calls, _NAME, self.volumes) == group
        assert restored(self._calls, self._ceph, group) == of(self.volumes, b"old")
        delete_group_until_done(self._calls, group)
        for volume in self.volumes:
            self._calls.delete_until_done(volume.volume_id)


@pytest.fixture
def grouped(ceph_dev: DevCeph, calls: Calls, tmp_path: Path) -> Grouped:
    return Grouped(ceph_dev, calls, tmp_path)


@pytest.mark.parametrize("with_directories", [True, False], ids=["all", "entries alone"])
def test_a_group_and_its_snapshots_are_restored_from_what_kubernetes_knows(
    ceph_dev: DevCeph, pool: Pool, grouped: Grouped, with_directories: bool
) -> None:
    assert rebuild(ceph_dev, "--objects", grouped.objects) == []
    lose(pool, with_directories=with_directories)
    handles = [grouped.group.group_snapshot_id, *(one.volume_id for one in grouped.volumes)]
    assert acts(rebuild(ceph_dev, "--objects", grouped.objects, "--yes")) == dict.fromkeys(handles, "entry")
    assert rebuild(ceph_dev, "--objects", grouped.objects) == []
    assert audit(ceph_dev) == {}
    grouped.use_and_delete()


@pytest.mark.parametrize(
    "point", ["journal.begin_complete:after", "journal.begin_complete:after:3", "journal.return_name:after:3"]
)
def test_a_rebuild_of_a_group_that_is_killed_is_taken_up_by_the_next(
    ceph_dev: DevCeph, pool: Pool, grouped: Grouped, point: str
) -> None:
    """After one of its snapshots, after its own entry, and after its name."""
    lose(pool)
    assert rebuild(ceph_dev, "--objects", grouped.objects, "--yes", fail_at=f"{point}=kill") is None
    rebuild(ceph_dev, "--objects", grouped.objects, "--yes")
    assert rebuild(ceph_dev, "--objects", grouped.objects) == []
    assert audit(ceph_dev) == {}
    grouped.use_and_delete()


def test_a_snapshot_whose_entry_alone_is_lost_is_restored_from_the_groups(
    ceph_dev: DevCeph, pool: Pool, grouped: Grouped
) -> None:
    lost = grouped.group.snapshots[0].snapshot_id
    pool.objects.apply(SNAPSHOTS.object(uuid_of(lost)), Write(remove_object=True))
    assert acts(rebuild(ceph_dev, "--yes")) == {grouped.group.group_snapshot_id: "entry"}
    assert audit(ceph_dev) == {}
    grouped.use_and_delete()


def test_a_group_that_is_not_there_is_named(ceph_dev: DevCeph, grouped: Grouped, tmp_path: Path) -> None:
    uuid = "50d53503-9da1-11ed-847e-bacf8f2f1297"
    gone = pb.VolumeGroupSnapshot(
        group_snapshot_id=grouped.group.group_snapshot_id[:-36] + uuid, snapshots=grouped.group.snapshots
    )
    objects = str(write_list(tmp_path / "gone.json", [group_content("2", gone)]))
    (found,) = rebuild(ceph_dev, "--objects", objects, "--yes")
    assert (found["restores"], found["problem"]) == ("nothing", f"there is no RBD group whose name ends in {uuid}")
    grouped.use_and_delete()
