"""Images made past librbd are librbd's own, byte for byte, and what a crash leaves of one is taken away."""

from contextlib import closing, suppress
from dataclasses import replace

import pytest
import rados
import rbd

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import CloneSource, ImageExists, ImageMissing, MetadataWrite, ParentSnap, Pool
from csi_driver.ceph.cluster import RadosClusters, Timeouts
from csi_driver.ceph.encoding import packed
from csi_driver.config import read_clusters
from csi_driver.dev.inventory import Place, inventory
from csi_driver.dev.layout import DevCeph
from csi_driver.errors import InvalidRequest
from csi_driver.host import commands
from csi_driver.model import ImageLayout
from tests.ceph.conftest import SNAP

MIB = 1 << 20
PLAIN = ImageLayout(("layering",))
FULL = ImageLayout(("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"))
LAYOUTS = {
    "layering": PLAIN,
    "all features": FULL,
    "object-map without fast-diff": ImageLayout(("layering", "exclusive-lock", "object-map")),
    "large objects": ImageLayout(FULL.features, 32 * MIB),
    "data pool": ImageLayout(FULL.features, data_pool="data"),
    "its own pool for data": ImageLayout(FULL.features, data_pool="rbd"),
}


BITS = {
    "layering": rbd.RBD_FEATURE_LAYERING,
    "exclusive-lock": rbd.RBD_FEATURE_EXCLUSIVE_LOCK,
    "object-map": rbd.RBD_FEATURE_OBJECT_MAP,
    "fast-diff": rbd.RBD_FEATURE_FAST_DIFF,
    "deep-flatten": rbd.RBD_FEATURE_DEEP_FLATTEN,
}


def by_librbd(bare: rados.Ioctx, name: str, size_bytes: int, layout: ImageLayout) -> str:
    rbd.RBD().create(
        bare,
        name,
        size_bytes,
        order=layout.object_size_bytes.bit_length() - 1,
        old_format=False,
        features=sum(BITS[one] for one in layout.features),
        data_pool=layout.data_pool or None,
    )
    return bare.read(f"rbd_id.{name}")[4:].decode()


def stored(bare: rados.Ioctx, name: str, image_id: str) -> dict[str, object]:
    """All that makes the image, by object; its id, which may be longer than librbd's, and its times aside."""
    found: dict[str, object] = {}
    for kind, made in (
        ("id", f"rbd_id.{name}"),
        ("header", f"rbd_header.{image_id}"),
        ("map", f"rbd_object_map.{image_id}"),
    ):
        with suppress(rados.ObjectNotFound):
            texts = {key: without(value, image_id, bare) for key, value in keys(bare, made).items()}
            found[kind] = without(bare.read(made), image_id, bare), texts
    directory = keys(bare, "rbd_directory")
    found["directory"] = without(directory[f"name_{name}"], image_id, bare), directory[f"id_{image_id}"]
    return found


def without(raw: bytes, image_id: str, bare: rados.Ioctx) -> bytes:
    for prefix in ("", "rbd_data.", f"rbd_data.{bare.get_pool_id()}."):
        raw = raw.replace(packed(prefix + image_id), packed(prefix + "<id>"))
    return raw


_TIMES = ("create_timestamp", "access_timestamp", "modify_timestamp")


def keys(bare: rados.Ioctx, name: str) -> dict[str, bytes]:
    operation = bare.create_read_op()
    try:
        found, _ = bare.get_omap_vals(operation, "", "", 1000)
        bare.operate_read_op(operation, name)
        return {key: value or b"" for key, value in found if key not in _TIMES}
    finally:
        bare.release_read_op(operation)


@pytest.mark.parametrize("size_bytes", [1, 8 * MIB, 40 * MIB + 4096, 1 << 30])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_an_image_is_what_librbd_would_have_made(
    pool: Pool, bare: rados.Ioctx, image: str, size_bytes: int, layout: ImageLayout
) -> None:
    theirs_id = by_librbd(bare, image, size_bytes, layout)
    theirs = stored(bare, image, theirs_id)
    pool.images.remove(image)
    ours_id = pool.images.create(image, size_bytes, layout)
    assert stored(bare, image, ours_id) == theirs


def test_a_clone_is_what_librbd_would_have_made(pool: Pool, bare: rados.Ioctx, image: str) -> None:
    """Its metadata too, and the parent's list of clones."""
    source_id = pool.images.create(image, 8 * MIB, FULL, MetadataWrite({"conf_a": "1", "b": "2"}, mark=7))
    snap = pool.images.cut(source_id, SNAP, most=1)
    clone = f"{image}-clone"
    rbd.RBD().clone(bare, image, SNAP, bare, clone, features=sum(BITS[one] for one in FULL.features))
    theirs_id = bare.read(f"rbd_id.{clone}")[4:].decode()
    theirs = stored(bare, clone, theirs_id)
    children = pool.ancestry.children(source_id, snap.snap_id)
    assert [one.image_id for one in children] == [theirs_id]
    pool.images.remove(clone)
    made = pool.images.clone(CloneSource(pool, image, SNAP), clone, FULL)
    assert stored(bare, clone, made.image_id) == theirs
    assert [one.image_id for one in pool.ancestry.children(source_id, snap.snap_id)] == [made.image_id]


def test_a_clone_that_is_larger_reads_its_parent_as_far_as_that_goes(
    ceph_dev: DevCeph, pool: Pool, bare: rados.Ioctx, image: str
) -> None:
    source_id = pool.images.create(image, 8 * MIB, FULL)
    with closing(rbd.Image(bare, image)) as opened:
        opened.write(b"data", 8 * MIB - 4)
    snap = pool.images.cut(source_id, SNAP, most=1)
    at = ParentSnap(pool.pool_id, pool.namespace, source_id, snap.snap_id)
    source = CloneSource(pool, image, SNAP, at=at, size_bytes=8 * MIB)
    changed = MetadataWrite({"c": "3"}, mark=4)
    made = pool.images.clone(source, f"{image}-clone", FULL, size_bytes=20 * MIB, metadata=changed)
    assert pool.images.get_metadata(f"{image}-clone") == {"c": "3"}
    assert pool.images.read_mark(made.image_id) == 4
    with closing(rbd.Image(bare, f"{image}-clone")) as opened:
        assert opened.size() == 20 * MIB
        assert opened.overlap() == 8 * MIB
        assert opened.read(8 * MIB - 4, 8) == b"data" + bytes(4)
        opened.write(b"more", 20 * MIB - 4)
    ceph_dev.rbd("object-map", "check", f"rbd/{image}-clone")  # fails where it tells what is not so


PARTS = ("rbd_id", "directory", "header", "map")


@pytest.mark.parametrize(
    "there",
    [
        *(("rbd_id",), ("directory",), ("rbd_id", "directory")),
        *(("rbd_id", "directory", "map"), ("rbd_id", "directory", "header")),
    ],
    ids="+".join,
)
def test_what_a_crash_leaves_is_taken_away_and_the_name_can_be_used_again(
    ceph_dev: DevCeph, pool: Pool, bare: rados.Ioctx, image: str, there: tuple[str, ...]
) -> None:
    before = inventory(ceph_dev, Place("rbd"))
    image_id = pool.images.create(image, 8 * MIB, FULL)
    for part in set(PARTS) - set(there):
        take_away(bare, part, image, image_id)
    pool.images.remove(image)
    with pytest.raises(ImageMissing):
        pool.images.remove(image)
    assert inventory(ceph_dev, Place("rbd")) == before
    assert pool.images.create(image, 8 * MIB, FULL) == pool.images.find_id(image)


def take_away(bare: rados.Ioctx, part: str, name: str, image_id: str) -> None:
    """As if a maker had died before it wrote that."""
    objects = {"rbd_id": f"rbd_id.{name}", "header": f"rbd_header.{image_id}", "map": f"rbd_object_map.{image_id}"}
    if part in objects:
        bare.remove_object(objects[part])
    else:
        bare.execute("rbd_directory", "rbd", "dir_remove_image", packed(name) + packed(image_id))


@pytest.mark.parametrize("taken", ["rbd_id", "directory"])
def test_a_name_that_is_half_taken_is_refused_and_left_as_it_was(
    ceph_dev: DevCeph, pool: Pool, bare: rados.Ioctx, image: str, taken: str
) -> None:
    image_id = pool.images.create(image, 8 * MIB, FULL)
    take_away(bare, "directory" if taken == "rbd_id" else "rbd_id", image, image_id)
    before = inventory(ceph_dev, Place("rbd"))
    with pytest.raises(ImageExists):
        pool.images.create(image, 8 * MIB, FULL)
    assert inventory(ceph_dev, Place("rbd")) == before
    for part in ("header", "map"):
        take_away(bare, part, image, image_id)
    pool.images.remove(image)


def test_a_namespace_that_is_not_there_is_named_and_nothing_is_left(
    ceph_dev: DevCeph, provisioner: Credentials, image: str
) -> None:
    entries = {"dev": replace(read_clusters(ceph_dev.config_json)["dev"], rados_namespace="nowhere")}
    with (
        closing(RadosClusters(lambda: entries, Timeouts())) as clusters,
        clusters.connect("dev", provisioner) as cluster,
        cluster.pool("rbd") as pool,
    ):
        with pytest.raises(InvalidRequest, match="nowhere"):
            pool.images.create(image, 8 * MIB, FULL)
        assert list(pool.objects.names()) == ["rbd_trash"]


@pytest.mark.parametrize("setting", ["rbd_default_data_pool", "rbd_default_stripe_unit"])
def test_a_pool_s_own_defaults_are_librbd_s_to_follow(
    ceph_dev: DevCeph, provisioner: Credentials, image: str, setting: str
) -> None:
    """Such as `rbd config pool set` makes."""
    values = {"rbd_default_data_pool": "data", "rbd_default_stripe_unit": "65536"}
    ceph_dev.rbd("config", "pool", "set", "rbd", setting, values[setting])
    if setting == "rbd_default_stripe_unit":
        ceph_dev.rbd("config", "pool", "set", "rbd", "rbd_default_stripe_count", "8")
    try:
        with (
            closing(RadosClusters(lambda: read_clusters(ceph_dev.config_json), Timeouts())) as clusters,
            clusters.connect("dev", provisioner) as cluster,
            cluster.pool("rbd") as pool,
        ):
            pool.images.create(image, 8 * MIB, PLAIN)
            info = pool.images.inspect(image)
        assert info.features[-1] == {"rbd_default_data_pool": "data-pool"}.get(setting, "striping")
    finally:
        for one in (*values, "rbd_default_stripe_count"):
            with suppress(commands.CommandFailed):
                ceph_dev.rbd("config", "pool", "remove", "rbd", one)


def test_an_image_of_many_objects_has_a_map_of_them(
    ceph_dev: DevCeph, pool: Pool, bare: rados.Ioctx, image: str
) -> None:
    pool.images.create(image, 3 << 40, FULL)
    with closing(rbd.Image(bare, image)) as opened:
        opened.write(b"end", (3 << 40) - 3)
    assert "invalid" not in ceph_dev.rbd("info", f"rbd/{image}")
    pool.images.shrink(image)
