"""Which pools may hold what is RBD's, by what `osd pool application get` answers."""

from csi_driver.ceph.cluster.monitor import rbd_pools


def test_pools_of_other_applications_alone_are_left_out() -> None:
    """A pool that is marked for nothing may be RBD's, as they are on old clusters."""
    answer: dict[str, dict[str, object]] = {
        "images": {"rbd": {}},
        "shared": {"cephfs": {"data": "fs"}, "rbd": {}},
        "old": {},
        "fs": {"cephfs": {"metadata": "fs"}},
        "objects": {"rgw": {}},
    }
    assert rbd_pools(answer) == ("images", "shared", "old")
