"""Groups and their snaps: the contract of `Groups` in csi_driver/ceph/api, and clones of a group's snap."""

import itertools
from collections.abc import Iterator
from contextlib import suppress

import pytest

from csi_driver.ceph.api import CloneSource, ImageBusy, ImageMissing, Pool, SnapKind
from csi_driver.errors import InvalidRequest, NoSpace
from csi_driver.model import ImageLayout
from tests.ceph.conftest import SNAP

MIB = 1 << 20
LOCKED = ImageLayout(("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"))
NO_GROUP = "no-such-group"

_numbers = itertools.count(1)


@pytest.fixture
def group(pool: Pool) -> Iterator[str]:
    """The name of a group that is there, and is removed with its snaps after the test."""
    name = f"contract-group-{next(_numbers)}"
    pool.groups.create(name)
    yield name
    pool.groups.remove(name)


@pytest.fixture
def members(pool: Pool, image: str, group: str) -> Iterator[tuple[str, str]]:
    """Two images in the group."""
    names = (image, f"{image}-clone")
    for name in names:
        pool.images.create(name, 8 * MIB, LOCKED)
        pool.groups.add(group, pool, name)
    yield names
    pool.groups.remove(group)  # before the images are


def snaps(pool: Pool, image: str) -> list[tuple[SnapKind, str, int]]:
    return [(snap.kind, snap.group, snap.group_pool_id) for snap in pool.images.inspect(image).snaps]


def test_a_snap_of_a_group_is_one_on_each_member(pool: Pool, group: str, members: tuple[str, str]) -> None:
    assert pool.groups.has_snap(group, SNAP) is None
    pool.groups.cut(group, SNAP)
    assert pool.groups.has_snap(group, SNAP) is True
    assert all(pool.images.is_snapped(pool.images.find_id(name) or "") for name in members)
    for name in members:
        assert snaps(pool, name) == [(SnapKind.GROUP, group, pool.pool_id)]
    pool.groups.remove_snap(group, SNAP)
    assert [snaps(pool, name) for name in members] == [[], []]
    assert pool.groups.has_snap(group, SNAP) is None


def test_snaps_of_groups_count_for_the_limit(pool: Pool, group: str, members: tuple[str, str]) -> None:
    pool.groups.cut(group, SNAP)
    image_id = pool.images.find_id(members[0])
    assert image_id
    with pytest.raises(NoSpace, match="1 snapshots"):
        pool.images.cut(image_id, f"{SNAP}-2", most=1)


def test_the_snap_stays_when_the_members_leave(pool: Pool, group: str, members: tuple[str, str]) -> None:
    pool.groups.cut(group, SNAP)
    for name in members:
        pool.groups.take_out(group, pool, name)
        pool.groups.take_out(group, pool, name)
    assert [snaps(pool, name) for name in members] == [[(SnapKind.GROUP, group, pool.pool_id)]] * 2
    pool.groups.remove_snap(group, SNAP)
    assert [snaps(pool, name) for name in members] == [[], []]


def test_groups_are_listed_by_name(pool: Pool, group: str) -> None:
    assert group in pool.groups.list_names()
    pool.groups.remove(group)
    assert group not in pool.groups.list_names()


def test_what_is_done_is_fine_to_be_asked_again(pool: Pool, group: str, members: tuple[str, str]) -> None:
    pool.groups.create(group)
    pool.groups.add(group, pool, members[0])
    pool.groups.remove_snap(group, SNAP)
    pool.groups.remove_snap(NO_GROUP, SNAP)
    pool.groups.remove(NO_GROUP)
    pool.groups.take_out(NO_GROUP, pool, members[0])
    pool.groups.take_out(group, pool, "no-such-image")
    assert pool.groups.has_snap(NO_GROUP, SNAP) is None


def test_an_image_is_in_one_group_at_a_time(pool: Pool, group: str, members: tuple[str, str]) -> None:
    other = f"{group}-other"
    pool.groups.create(other)
    try:
        with pytest.raises(ImageBusy):
            pool.groups.add(other, pool, members[0])
        pool.groups.take_out(other, pool, members[0])
        with pytest.raises(ImageBusy):
            pool.groups.add(other, pool, members[0])
        image_id = pool.images.find_id(members[0])
        assert image_id
        for _ in range(2):
            pool.groups.leave(members[0], image_id)
        pool.groups.add(other, pool, members[0])
    finally:
        pool.groups.remove(other)


def test_a_missing_image_is_not_added(pool: Pool, group: str) -> None:
    with pytest.raises(ImageMissing):
        pool.groups.add(group, pool, "no-such-image")


def test_a_removed_group_lets_its_members_go(pool: Pool, group: str, members: tuple[str, str]) -> None:
    """Also one in the trash, where librbd lets a member in: it can then be purged."""
    image_id = pool.images.find_id(members[0])
    assert image_id
    with suppress(ImageBusy):  # from 20.2 on
        pool.images.move_to_trash(members[0])
    is_trashed = pool.images.find_trashed(image_id) is not None
    if is_trashed:
        with pytest.raises(ImageBusy):
            pool.images.purge(image_id)
    pool.groups.remove(group)
    if not is_trashed:
        pool.images.move_to_trash(members[0])
    pool.images.purge(image_id)
    pool.images.remove(members[1])


def test_a_removed_group_takes_its_snap_along(pool: Pool, group: str, members: tuple[str, str]) -> None:
    pool.groups.cut(group, SNAP)
    pool.groups.remove(group)
    assert [snaps(pool, name) for name in members] == [[], []]


@pytest.fixture
def clone(pool: Pool) -> Iterator[str]:
    name = f"contract-copy-{next(_numbers)}"
    yield name
    with suppress(ImageMissing):
        pool.images.remove(name)


def test_a_snap_of_a_group_is_cloned_by_its_id(pool: Pool, group: str, members: tuple[str, str], clone: str) -> None:
    """The clone holds its snap, which goes to the trash namespace with the group's, and away with the clone."""
    pool.groups.cut(group, SNAP)
    (snap,) = pool.images.inspect(members[0]).snaps
    image_id = pool.images.find_id(members[0])
    assert image_id
    source = CloneSource(pool, members[0], snap.name, snap_id=snap.snap_id)
    pool.images.clone(source, clone, LOCKED)
    info = pool.images.inspect(clone)
    parent = pool.ancestry.find_parent(info.image_id)
    assert parent
    assert (info.has_parent, info.size_bytes, parent.snap_id) == (True, 8 * MIB, snap.snap_id)
    assert (pool.ancestry.count(info.image_id), pool.ancestry.is_listed(info.image_id)) == (1, True)
    pool.groups.remove_snap(group, SNAP)
    assert [one[0] for one in snaps(pool, members[0])] == [SnapKind.TRASH]
    assert snaps(pool, members[1]) == []
    with pytest.raises(ImageMissing):
        pool.images.clone(source, f"{clone}-late", LOCKED)
    pool.images.remove(f"{clone}-late") if pool.images.find_id(f"{clone}-late") else None
    pool.images.flatten(info.image_id, lambda _done: True)
    assert snaps(pool, members[0]) == []


def test_a_clone_of_a_groups_snap_goes_as_any_other(
    pool: Pool, group: str, members: tuple[str, str], clone: str
) -> None:
    pool.groups.cut(group, SNAP)
    (snap,) = pool.images.inspect(members[0]).snaps
    pool.images.clone(CloneSource(pool, members[0], snap.name, snap_id=snap.snap_id), clone, LOCKED)
    pool.images.remove(clone)
    pool.groups.remove_snap(group, SNAP)
    assert snaps(pool, members[0]) == []


def test_a_group_member_without_layering_is_not_cloned(pool: Pool, group: str, image: str, clone: str) -> None:
    pool.images.create(image, 8 * MIB, ImageLayout(("exclusive-lock",)))
    pool.groups.add(group, pool, image)
    pool.groups.cut(group, SNAP)
    (snap,) = pool.images.inspect(image).snaps
    with pytest.raises(InvalidRequest, match="layering"):
        pool.images.clone(CloneSource(pool, image, snap.name, snap_id=snap.snap_id), clone, LOCKED)
    pool.groups.remove(group)
