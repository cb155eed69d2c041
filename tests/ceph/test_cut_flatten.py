"""A flatten that was cut short after the image left its parent's list, on real librbd: what the repairs make of it.

How it comes to that is seen in tests/controller/test_flatten.py; here the step that was done last is made by hand.
"""

import struct

import pytest
import rados

from csi_driver.ceph.api import CloneSource, ImageMissing, Pool, SnapKind
from csi_driver.dev.layout import DevCeph
from csi_driver.model import CloneFormat, ImageLayout
from tests import image_data
from tests.ceph.conftest import SNAP

MIB = 1 << 20
OLD, NEW = b"of the parent", b"of the clone."


@pytest.mark.parametrize("clone_format", [CloneFormat.TWO, CloneFormat.ONE])
def test_a_snap_of_an_image_that_was_taken_off_its_parents_list_outlives_the_parent(
    ceph_dev: DevCeph, pool: Pool, image: str, clone_format: CloneFormat
) -> None:
    """Without deep-flatten. The clone is put back on the list and flattened again; its snap keeps the parent's."""
    clone, images, layout = f"{image}-clone", pool.images, ImageLayout(("layering", "exclusive-lock"))
    images.create(image, 8 * MIB, layout)
    parent_id = images.find_id(image) or ""
    image_data.write(ceph_dev, image, OLD)
    images.cut(parent_id, SNAP, most=1)
    images.clone(CloneSource(pool, image, SNAP, clone_format), clone, layout)
    clone_id = images.find_id(clone) or ""
    image_data.write(ceph_dev, clone, NEW, 4 * MIB)
    take_off_the_list(ceph_dev, pool, clone_id, clone_format)
    assert not pool.ancestry.is_listed(clone_id)

    snap = images.cut(clone_id, SNAP, most=1)
    pool.ancestry.list_again(clone_id)
    assert pool.ancestry.is_listed(clone_id)
    images.flatten(clone_id, lambda _part: True)
    assert pool.ancestry.is_listed(clone_id), "for its snap's sake"
    image_data.write(ceph_dev, clone, b"written since")
    if clone_format is CloneFormat.TWO:
        images.remove_snap(parent_id, SNAP)
        assert [one.kind for one in images.inspect(image).snaps] == [SnapKind.TRASH], "the clone's snap needs it"
    for offset, data in ((0, OLD), (4 * MIB, NEW)):
        with image_data.opened(ceph_dev, clone, read_only=True) as opened:
            opened.set_snap(SNAP)
            assert opened.read(offset, len(data)) == data
    images.remove_snap(clone_id, snap.name)
    images.remove_snap(parent_id, SNAP)
    assert images.snap_ids(parent_id) == (), "with the last snap of the clone it is free"
    assert pool.ancestry.find_parent(clone_id) is None


def test_with_deep_flatten_the_link_of_the_snaps_goes_too(ceph_dev: DevCeph, pool: Pool, image: str) -> None:
    clone, images, layout = f"{image}-clone", pool.images, ImageLayout(("layering", "deep-flatten"))
    images.create(image, 8 * MIB, layout)
    parent_id = images.find_id(image) or ""
    images.cut(parent_id, SNAP, most=1)
    images.clone(CloneSource(pool, image, SNAP), clone, layout)
    clone_id = images.find_id(clone) or ""
    take_off_the_list(ceph_dev, pool, clone_id, CloneFormat.TWO)
    snap = images.cut(clone_id, SNAP, most=1)
    pool.ancestry.drop_parent(clone_id)
    assert pool.ancestry.find_parent(clone_id) is None
    assert pool.ancestry.count(clone_id, snap.snap_id) == 0


def test_a_snap_that_is_gone_lists_nothing_again(ceph_dev: DevCeph, pool: Pool, image: str) -> None:
    clone, images, layout = f"{image}-clone", pool.images, ImageLayout(("layering",))
    images.create(image, 8 * MIB, layout)
    parent_id = images.find_id(image) or ""
    images.cut(parent_id, SNAP, most=1)
    images.clone(CloneSource(pool, image, SNAP), clone, layout)
    clone_id = images.find_id(clone) or ""
    take_off_the_list(ceph_dev, pool, clone_id, CloneFormat.TWO)
    images.remove_snap(parent_id, SNAP)
    with pytest.raises(ImageMissing):
        images.inspect(clone)
    with pytest.raises(ImageMissing):
        pool.ancestry.list_again(clone_id)
    pool.ancestry.drop_parent(clone_id)
    assert not images.inspect(clone).has_parent


def test_one_of_many_clones_is_found_on_the_list(ceph_dev: DevCeph, pool: Pool, image: str) -> None:
    """The list is longer than librados' default length of an answer, 8192 bytes."""
    clone, images, layout = f"{image}-clone", pool.images, ImageLayout(("layering",))
    images.create(image, 8 * MIB, layout)
    images.cut(images.find_id(image) or "", SNAP, most=1)
    images.clone(CloneSource(pool, image, SNAP), clone, layout)
    clone_id = images.find_id(clone) or ""
    parent = pool.ancestry.find_parent(clone_id)
    assert parent
    others = [child(pool, parent.snap_id, f"0000{number:08x}") for number in range(300)]
    with rados.Rados(conffile=str(ceph_dev.conf)) as cluster, cluster.open_ioctx(pool.name) as ioctx:
        for other in others:
            ioctx.execute(f"rbd_header.{parent.image_id}", "rbd", "child_attach", other)
        assert pool.ancestry.is_listed(clone_id)
        for other in others:
            ioctx.execute(f"rbd_header.{parent.image_id}", "rbd", "child_detach", other)


def take_off_the_list(ceph: DevCeph, pool: Pool, clone_id: str, clone_format: CloneFormat) -> None:
    """Ceph: cls_rbd, child_detach, remove_child."""
    parent = pool.ancestry.find_parent(clone_id)
    assert parent
    snap = struct.pack("<Q", parent.snap_id)
    with rados.Rados(conffile=str(ceph.conf)) as cluster, cluster.open_ioctx(pool.name) as ioctx:
        if clone_format is CloneFormat.ONE:
            key = struct.pack("<q", parent.pool_id) + text(parent.image_id) + snap
            ioctx.execute("rbd_children", "rbd", "remove_child", key + text(clone_id))
        else:
            gone = child(pool, parent.snap_id, clone_id)
            ioctx.execute(f"rbd_header.{parent.image_id}", "rbd", "child_detach", gone)


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def child(pool: Pool, snap_id: int, image_id: str) -> bytes:
    """The snap, and an image as one of its clones."""
    spec = struct.pack("<q", pool.pool_id) + text(image_id) + text("")
    return struct.pack("<QBBI", snap_id, 2, 1, len(spec)) + spec
