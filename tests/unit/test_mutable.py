"""Mutable parameters: how changes add up, and the limits that follow from them."""

import pytest

from csi_driver.errors import InvalidRequest
from csi_driver.model import FlattenMode, FlattenPolicy
from csi_driver.mutable import GIB, MOST, DeviceLimits, MutableParameters, Value


def of(**values: Value) -> MutableParameters:
    return MutableParameters().changed(values)


@pytest.mark.parametrize(
    ("values", "gibs", "limit"),
    [
        ({"baseIops": 100}, 9, 100),
        ({"maxIops": 70}, 9, 70),
        ({"baseIops": 100, "maxIops": 500}, 9, 100),
        ({"iopsPerGiB": 5}, 9, 45),
        ({"iopsPerGiB": 5}, 0.5, 1),
        ({"iopsPerGiB": 5, "maxIops": 20}, 9, 20),
        ({"baseIops": 100, "iopsPerGiB": 5}, 9.9, 145),
        ({"baseIops": 100, "iopsPerGiB": 5, "baseVolSizeBytes": 4 * GIB}, 9, 125),
        ({"baseIops": 100, "iopsPerGiB": 5, "baseVolSizeBytes": 10 * GIB}, 9, 100),
        ({"iopsPerGiB": MOST}, 1000, MOST),
    ],
    ids=str,
)
def test_a_limit_is_the_base_and_what_the_size_adds_up_to_the_most(
    values: dict[str, Value], gibs: float, limit: int
) -> None:
    assert of(**values).settings(int(gibs * GIB)) == {"conf_rbd_qos_iops_limit": str(limit)}


def test_a_burst_is_never_below_its_limit() -> None:
    """librbd would drop the limit."""
    grown = of(readBpsPerGiB=100, burstReadBps=150)
    assert grown.settings(GIB)["conf_rbd_qos_read_bps_burst"] == "150"
    assert grown.settings(4 * GIB)["conf_rbd_qos_read_bps_burst"] == "400"


def test_who_knows_reads_and_writes_alone_gets_a_limit_of_both_for_each() -> None:
    limits = of(baseIops=100, maxReadIops=40, baseWriteBps=5000, burstWriteBps=9000).device_limits(GIB)
    assert limits == DeviceLimits(read_iops=40, write_iops=100, write_bps=5000)
    assert str(limits) == "riops=40 wiops=100 wbps=5000"
    assert str(of(flatten="never").device_limits(GIB)) == ""


def test_each_change_counts_and_one_that_changes_nothing_does_not() -> None:
    first = of(baseIops=5)
    assert (first.version, first.changed({"baseIops": 5}), of()) == (1, first, MutableParameters())
    second = first.changed({"baseIops": 0, "flatten": "never"})
    assert (second.version, second.values) == (2, {"flatten": "never"})
    assert second.settings(GIB) == {}


def test_the_journal_reads_what_it_wrote() -> None:
    written = of(baseIops=5, trashRetention=0, flatten="lazy")
    assert MutableParameters.parse(str(written)) == written
    assert (str(MutableParameters()), MutableParameters.parse("")) == ("", MutableParameters())


def test_what_is_set_wins_over_the_class() -> None:
    policy = FlattenPolicy(FlattenMode.LAZY, 4, 8)
    assert policy.changed(of(flatten="never")) == FlattenPolicy(FlattenMode.NEVER, 4, 8)
    assert policy.changed(of(hardCloneDepth=2)) == FlattenPolicy(FlattenMode.LAZY, 2, 2)
    with pytest.raises(InvalidRequest, match="softCloneDepth would be 9"):
        policy.changed(of(softCloneDepth=9))
    assert (of(trashRetention=0).retention_s(60), of().retention_s(60)) == (0, 60)
