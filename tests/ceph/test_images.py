"""Images, their metadata and the trash: the contract of `Images` in csi_driver/ceph/api."""

import time
from collections.abc import Callable

import pytest

from csi_driver.ceph.api import (
    CloneSource,
    CompareFailed,
    ImageExists,
    ImageHasSnapshots,
    ImageInfo,
    ImageMissing,
    Images,
    MetadataWrite,
    Pool,
)
from csi_driver.errors import InvalidRequest
from csi_driver.model import ImageLayout
from tests.ceph.conftest import SNAP

MIB = 1 << 20
PLAIN = ImageLayout(("layering",))
FULL = ImageLayout(("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"))


@pytest.fixture
def images(pool: Pool) -> Images:
    return pool.images


@pytest.fixture
def made(images: Images, image: str) -> str:
    """The name of an image of 8 MiB."""
    images.create(image, 8 * MIB, PLAIN)
    return image


def id_of(images: Images, name: str) -> str:
    image_id = images.find_id(name)
    assert image_id
    return image_id


@pytest.mark.parametrize(
    ("size_bytes", "layout", "features", "data_pool"),
    [
        (MIB, PLAIN, {"layering"}, ""),
        (8 * MIB + 4096, FULL, set(FULL.features), ""),
        (1 << 30, ImageLayout(("layering", "exclusive-lock")), {"layering", "exclusive-lock"}, ""),
        (8 * MIB, ImageLayout(("layering",), data_pool="data"), {"layering", "data-pool"}, "data"),
        (8 * MIB, ImageLayout(("layering",), 65536, 4096, 8), {"layering", "striping"}, ""),
    ],
    ids=["small", "features", "1 GiB", "data pool", "stripes"],
)
def test_an_image_is_as_it_was_asked_for(
    images: Images, image: str, *, size_bytes: int, layout: ImageLayout, features: set[str], data_pool: str
) -> None:
    images.create(image, size_bytes, layout)
    info = images.inspect(image)
    assert set(info.features) == features
    assert info == ImageInfo(
        image_id=id_of(images, image),
        size_bytes=size_bytes,
        features=info.features,
        data_pool=data_pool,
        snaps=(),
        has_parent=False,
        watchers=(),
    )
    assert images.get_metadata(image) == {}


def test_a_name_that_is_taken_is_refused_and_its_image_untouched(images: Images, made: str) -> None:
    before = images.inspect(made)
    with pytest.raises(ImageExists):
        images.create(made, 16 * MIB, FULL)
    assert images.inspect(made) == before


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (ImageLayout(("layering",), stripe_unit_bytes=3, stripe_count=3), "refuses"),
        (ImageLayout(("layering",), 4096, 8192, 2), "refuses"),
        (ImageLayout(("layering", "object-map")), "refuses"),
        (ImageLayout(("layering",), data_pool="no-such-pool"), "'no-such-pool' does not exist"),
    ],
    ids=["stripe unit", "stripe unit above the object", "object-map alone", "data pool"],
)
def test_a_layout_that_cannot_be_is_refused_and_nothing_is_left(
    images: Images, image: str, layout: ImageLayout, said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        images.create(image, 8 * MIB, layout)
    assert images.find_id(image) is None
    with pytest.raises(ImageMissing):
        images.inspect(image)


NO_ID = "0123456789ab"


@pytest.mark.parametrize(
    "call",
    [
        lambda images, name: images.inspect(name),
        lambda images, name: images.get_metadata(name),
        lambda images, name: images.grow(name, 8 * MIB),
        lambda images, name: images.shrink(name),
        lambda images, name: images.get_snap(name, SNAP),
        lambda images, name: images.remove(name),
        lambda images, name: images.move_to_trash(name),
        lambda images, _: images.purge(NO_ID),
        lambda images, name: images.restore_from_trash(NO_ID, name),
        lambda images, _: images.write_metadata(NO_ID, MetadataWrite({"a": "1"})),
        lambda images, _: images.announce(NO_ID),
        lambda images, _: images.sparsify(NO_ID),
        lambda images, _: images.cut(NO_ID, SNAP, most=9),
        lambda images, _: images.remove_snap(NO_ID, SNAP),
    ],
    ids=[
        *("inspect", "get_metadata", "grow", "shrink", "get_snap", "remove", "move_to_trash"),
        *("purge", "restore_from_trash", "write_metadata", "announce", "sparsify", "cut", "remove_snap"),
    ],
)
def test_an_image_that_is_not_there_is_missing_to_every_call(
    images: Images, image: str, call: Callable[[Images, str], object]
) -> None:
    with pytest.raises(ImageMissing):
        call(images, image)
    assert images.find_id(image) is None
    assert images.snap_ids(NO_ID) == ()


@pytest.mark.parametrize(
    ("asked", "size_bytes"), [(16 * MIB, 16 * MIB), (8 * MIB + 4096, 8 * MIB + 4096), (8 * MIB, 8 * MIB), (1, 8 * MIB)]
)
def test_an_image_grows_and_never_shrinks_by_growing(images: Images, made: str, asked: int, size_bytes: int) -> None:
    assert images.grow(made, asked) == size_bytes
    assert images.inspect(made).size_bytes == size_bytes


def await_closed(images: Images, image: str) -> None:
    deadline = time.monotonic() + 30
    while images.inspect(image).watchers:
        assert time.monotonic() < deadline, "it stays open"


def test_an_image_that_is_opened_ahead_is_opened_once_and_closed_in_the_end(images: Images, made: str) -> None:
    with images.open_ahead(id_of(images, made)):
        assert images.grow(made, 16 * MIB) == 16 * MIB
    await_closed(images, made)
    images.remove(made)


def test_what_cannot_be_opened_ahead_is_told_by_the_call_that_needs_it(images: Images, image: str) -> None:
    with images.open_ahead(NO_ID), pytest.raises(ImageMissing):
        images.grow(image, 16 * MIB)


def test_what_is_opened_ahead_and_not_needed_is_closed(images: Images, made: str) -> None:
    with images.open_ahead(id_of(images, made)):
        pass
    await_closed(images, made)


def test_a_shrunk_image_has_one_byte(images: Images, made: str) -> None:
    images.shrink(made)
    assert images.inspect(made).size_bytes == 1


def test_a_removed_image_is_gone_and_its_name_free(images: Images, made: str) -> None:
    before = id_of(images, made)
    images.remove(made)
    assert images.find_id(made) is None
    with pytest.raises(ImageMissing):
        images.remove(made)
    assert made not in {entry.name for entry in images.list_trash()}
    images.create(made, MIB, PLAIN)
    assert id_of(images, made) != before


# ── metadata ──


def test_the_size_of_an_image_is_told_without_opening_it(images: Images, made: str) -> None:
    """Also of one in the trash; one that is gone has none."""
    image_id = images.find_id(made) or ""
    images.grow(made, 12 * MIB)
    assert images.find_size(image_id) == images.inspect(made).size_bytes == 12 * MIB
    images.move_to_trash(made)
    assert images.find_size(image_id) == 12 * MIB
    images.purge(image_id)
    assert images.find_size(image_id) is None


def test_metadata_is_merged_key_by_key(images: Images, made: str) -> None:
    image_id = id_of(images, made)
    images.write_metadata(image_id, MetadataWrite({"csi.storage.k8s.io/pvc/name": "größe–", "a": "1", "b": "1"}))
    images.write_metadata(image_id, MetadataWrite({"a": "2", "long": "x" * 4000}, drop=("b", "never there")))
    assert images.get_metadata(made) == {
        "csi.storage.k8s.io/pvc/name": "größe–",
        "a": "2",
        "long": "x" * 4000,
    }


def test_a_write_over_another_mark_changes_nothing(images: Images, made: str) -> None:
    image_id = id_of(images, made)
    assert images.read_mark(image_id) == 0
    images.write_metadata(image_id, MetadataWrite({"a": "1", "b": "1"}, mark=3))
    for over in (0, 2):
        with pytest.raises(CompareFailed):
            images.write_metadata(image_id, MetadataWrite({"a": "late"}, drop=("b",), mark=4, over=over))
    assert (images.read_mark(image_id), images.get_metadata(made)) == (3, {"a": "1", "b": "1"})
    images.write_metadata(image_id, MetadataWrite({"a": "4"}, drop=("b",), mark=4, over=3))
    assert (images.read_mark(image_id), images.get_metadata(made)) == (4, {"a": "4"})


def test_a_clone_inherits_metadata_and_no_mark(pool: Pool, made: str) -> None:
    images, image_id = pool.images, id_of(pool.images, made)
    images.write_metadata(image_id, MetadataWrite({"conf_rbd_qos_iops_limit": "9"}, mark=3))
    images.cut(image_id, SNAP, most=1)
    images.clone(CloneSource(pool, made, SNAP), f"{made}-clone", PLAIN)
    assert images.get_metadata(f"{made}-clone") == {"conf_rbd_qos_iops_limit": "9"}
    assert images.read_mark(id_of(images, f"{made}-clone")) == 0


def test_an_image_that_nobody_has_open_is_announced_to_nobody(images: Images, made: str) -> None:
    images.announce(id_of(images, made))


@pytest.mark.parametrize("how", ["removed", "purged"])
def test_metadata_of_an_image_that_is_gone_leaves_no_header_behind(pool: Pool, made: str, how: str) -> None:
    """A late write must not make what nobody would ever remove."""
    image_id = id_of(pool.images, made)
    if how == "removed":
        pool.images.remove(made)
    else:
        pool.images.move_to_trash(made)
        pool.images.purge(image_id)
    with pytest.raises(ImageMissing):
        pool.images.write_metadata(image_id, MetadataWrite({"a": "1"}))
    assert pool.objects.read(f"rbd_header.{image_id}") is None


# ── trash ──


def trashed(images: Images, name: str) -> list[str]:
    return [entry.image_id for entry in images.list_trash() if entry.name == name]


def test_an_image_in_the_trash_has_lost_its_name_and_kept_its_id(images: Images, made: str) -> None:
    image_id = id_of(images, made)
    images.move_to_trash(made)
    assert images.find_id(made) is None
    assert trashed(images, made) == [image_id]
    for call in (images.inspect, images.move_to_trash, images.remove):
        with pytest.raises(ImageMissing):
            call(made)
    assert trashed(images, made) == [image_id]


def test_a_name_can_be_in_the_trash_more_than_once_and_in_use(images: Images, made: str) -> None:
    ids = {id_of(images, made)}
    images.move_to_trash(made)
    images.create(made, MIB, PLAIN)
    ids.add(id_of(images, made))
    images.move_to_trash(made)
    images.create(made, 2 * MIB, PLAIN)
    assert set(trashed(images, made)) == ids
    assert len(ids) == 2
    for image_id in ids:
        images.purge(image_id)
    assert images.inspect(made).size_bytes == 2 * MIB, "the living one is another"


def test_a_purged_image_is_gone_for_good(images: Images, made: str) -> None:
    image_id = id_of(images, made)
    images.move_to_trash(made)
    images.purge(image_id)
    assert trashed(images, made) == []
    with pytest.raises(ImageMissing):
        images.purge(image_id)


def test_an_image_that_is_not_in_the_trash_is_not_purged(images: Images, made: str) -> None:
    with pytest.raises(ImageMissing):
        images.purge(id_of(images, made))
    assert images.inspect(made).size_bytes == 8 * MIB


def test_an_image_with_snapshots_is_neither_removed_nor_purged(images: Images, made: str) -> None:
    """It is whole afterwards; without its snapshots it goes."""
    image_id = id_of(images, made)
    images.cut(image_id, SNAP, most=9)
    with pytest.raises(ImageHasSnapshots):
        images.remove(made)
    assert [snap.name for snap in images.inspect(made).snaps] == [SNAP]
    images.move_to_trash(made)
    with pytest.raises(ImageHasSnapshots):
        images.purge(image_id)
    assert trashed(images, made) == [image_id]
    images.remove_snap(image_id, SNAP)
    images.purge(image_id)
    assert trashed(images, made) == []


def test_an_image_that_nobody_writes_to_has_no_lock_owner(pool: Pool, image: str) -> None:
    """And an image that is not there cannot be asked."""
    pool.images.create(image, MIB, PLAIN)
    image_id = pool.images.find_id(image)
    assert image_id
    assert pool.images.lock_owners(image_id) == ()
    with pytest.raises(ImageMissing):
        pool.images.lock_owners("0123456789ab")
