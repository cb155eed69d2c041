"""How much room a class has, by what the monitors know of its pools."""

from collections.abc import Mapping

import pytest

from csi_driver.ceph.api import PoolUsage
from csi_driver.errors import InvalidRequest
from csi_driver.operations.capacity import Capacity, PoolsOfClass, room
from tests.memory_ceph import Client, MemoryCeph, MemoryClusters

MIB = 1 << 20
GIB = 1 << 30


@pytest.mark.parametrize(
    ("usage", "bytes_"),
    [
        (PoolUsage(free_bytes=9 * GIB), 9 * GIB),
        (PoolUsage(free_bytes=0), 0),
        (PoolUsage(free_bytes=9 * GIB, stored_bytes=5 * GIB, quota_bytes=6 * GIB), GIB),
        (PoolUsage(free_bytes=GIB, stored_bytes=5 * GIB, quota_bytes=9 * GIB), GIB),
        (PoolUsage(free_bytes=GIB, stored_bytes=9 * GIB, quota_bytes=6 * GIB), 0),
        (PoolUsage(free_bytes=GIB, objects=90, quota_objects=100), 40 * MIB),
        (PoolUsage(free_bytes=GIB, objects=100, quota_objects=90), 0),
        (PoolUsage(free_bytes=GIB, stored_bytes=0, quota_bytes=80 * MIB, objects=90, quota_objects=100), 40 * MIB),
        (PoolUsage(free_bytes=GIB, stored_bytes=0, quota_bytes=8 * MIB, objects=90, quota_objects=100), 8 * MIB),
    ],
)
def test_the_room_of_a_pool_is_what_space_and_both_quotas_leave(usage: PoolUsage, bytes_: int) -> None:
    assert room(usage, 4 * MIB) == bytes_


def capacity(usage: Mapping[str, PoolUsage]) -> Capacity:
    ceph = MemoryCeph()
    ceph.usage.update(usage)
    return Capacity(MemoryClusters(ceph, Client()), lambda: ["dev"], "csi.volumes.default")


def of_class(usage: Mapping[str, PoolUsage], pool: str = "rbd", data_pool: str = "") -> int:
    return capacity(usage).of_class(PoolsOfClass("dev", ((pool, data_pool),), 4 * MIB))


def test_data_lies_in_the_data_pool() -> None:
    """Its room counts; a full pool of the images themselves leaves none."""
    rbd, data = PoolUsage(free_bytes=GIB), PoolUsage(free_bytes=5 * GIB)
    assert of_class({"rbd": rbd, "data": data}) == GIB
    assert of_class({"rbd": rbd, "data": data}, data_pool="data") == 5 * GIB
    assert of_class({"rbd": PoolUsage(free_bytes=0), "data": data}, data_pool="data") == 0


@pytest.mark.parametrize(("pool", "data_pool"), [("gone", ""), ("rbd", "gone")])
def test_a_pool_that_is_not_there_is_named(pool: str, data_pool: str) -> None:
    with pytest.raises(InvalidRequest, match="'gone'"):
        of_class({}, pool, data_pool)


def test_of_several_pools_the_roomiest_counts_and_of_none_there_is_no_room() -> None:
    usage = {"rbd": PoolUsage(free_bytes=GIB), "second": PoolUsage(free_bytes=3 * GIB)}
    both = PoolsOfClass("dev", (("rbd", ""), ("second", "")), 4 * MIB)
    assert capacity(usage).of_class(both) == 3 * GIB
    assert capacity(usage).of_class(PoolsOfClass("dev", (), 4 * MIB)) == 0


def test_without_a_class_the_roomiest_pool_counts() -> None:
    usage = {"rbd": PoolUsage(free_bytes=GIB), "second": PoolUsage(free_bytes=3 * GIB), "data": PoolUsage(2 * GIB)}
    assert capacity(usage).of_best_pool() == 3 * GIB
