"""What a removal of a snap that was killed half way leaves, and that Ceph's own scrub of purged snaps trims it."""

import time

import pytest
import rados
import rbd

from csi_driver.dev.inventory import Place, inventory, leftovers
from csi_driver.dev.layout import DevCeph
from csi_driver.host.commands import run

_PLACE = Place("rbd")
_FORGOTTEN_S = 120.0


@pytest.mark.timeout(400)
def test_old_data_that_no_removal_trims_any_more_is_trimmed_by_a_scrub(ceph_dev: DevCeph) -> None:
    before = inventory(ceph_dev, _PLACE)
    with rados.Rados(conffile=str(ceph_dev.conf)) as cluster, cluster.open_ioctx("rbd") as ioctx:
        rbd.RBD().create(ioctx, "half-removed", 2**22)
        with rbd.Image(ioctx, "half-removed") as image:
            image.write(b"old", 0)
            image.create_snap("snap")
            (snap,) = image.list_snaps()
            ioctx.remove_self_managed_snap(snap["id"])  # as far as the killed client came
            _await_forgotten(ceph_dev, snap["id"])
            image.write(b"new", 0)
            image.remove_snap("snap")
            data = f"rbd_data.{image.id()}.{0:016x}"
        rbd.RBD().remove(ioctx, "half-removed")
    assert inventory(ceph_dev, _PLACE) - before == {f"object {data}"}
    clones = run(("rados", "-c", str(ceph_dev.conf), "-p", "rbd", "listsnaps", data), timeout_s=30).stdout
    assert "head" not in clones
    assert leftovers(ceph_dev, _PLACE, known=before) == frozenset()


def _await_forgotten(ceph: DevCeph, snap_id: int) -> None:
    """Until the monitors no longer tell the OSDs that the snap is to be removed: the OSDs have purged it."""
    deadline = time.monotonic() + _FORGOTTEN_S
    while f"{snap_id:x}~" in _queues(ceph):
        assert time.monotonic() < deadline, _queues(ceph)
        time.sleep(0.2)


def _queues(ceph: DevCeph) -> str:
    return " ".join(line for line in ceph.ceph("osd", "dump").splitlines() if "removed_snaps_queue" in line)
