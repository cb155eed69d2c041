"""Reads from the nearest replica: where a node is, and what krbd is told of it."""

from collections.abc import Mapping, Sequence

import pytest

from csi_driver.addresses import Credentials, ImageAddress, ReadAffinity
from csi_driver.errors import ClusterUnavailable
from csi_driver.host import krbd_options
from csi_driver.operations.crush_location import CrushLocation

LABELS = {"topology.kubernetes.io/zone": "z.1", "kubernetes.io/hostname": "worker-1.example", "rack": "r1"}


def address(affinity: ReadAffinity | None) -> ImageAddress:
    return ImageAddress(("127.0.0.1",), Credentials("user", "key"), "rbd", "", "csi-vol-1", affinity)


def words(affinity: ReadAffinity | None, buckets: Mapping[str, str], given: Sequence[str] = ()) -> tuple[str, ...]:
    return krbd_options.nearest(address(affinity), given, lambda _labels: buckets)


def test_the_place_is_told_as_the_kernel_takes_it() -> None:
    assert words(ReadAffinity(), {"zone": "z1", "host": "a"}) == (
        "read_from_replica=localize",
        "crush_location=host:a|zone:z1",
    )


@pytest.mark.parametrize("given", ["read_from_replica=no", "read_from_replica=balance", "crush_location=zone:z2"])
def test_a_class_that_speaks_of_reads_itself_is_left_alone(given: str) -> None:
    assert words(ReadAffinity(), {"zone": "z1"}, [given]) == ()
    assert words(ReadAffinity(), {"zone": "z1"}, ["queue_depth=64"])


def test_nothing_is_said_where_nobody_asks_for_it_or_knows_the_place() -> None:
    assert words(None, {"zone": "z1"}) == ()
    assert words(ReadAffinity(), {}) == ()


def test_the_values_of_labels_are_buckets() -> None:
    place = CrushLocation({}, lambda: LABELS)
    assert place.by(["topology.kubernetes.io/zone", "kubernetes.io/hostname"]) == {
        "zone": "z-1",
        "host": "worker-1-example",
    }
    assert place.by(["rack", "no-such-label"]) == {"rack": "r1"}


def test_a_flag_counts_more_than_a_label_and_needs_none() -> None:
    place = CrushLocation({"zone": "told"}, lambda: LABELS)
    assert place.by(["topology.kubernetes.io/zone", "rack"]) == {"zone": "told", "rack": "r1"}
    assert place.by([]) == {"zone": "told"}


def test_labels_are_read_once_and_again_as_long_as_they_cannot() -> None:
    asked: list[bool] = []

    def read() -> Mapping[str, str]:
        asked.append(True)
        if len(asked) == 1:
            raise ClusterUnavailable("the API server is away")
        return LABELS

    place = CrushLocation({}, read)
    assert place.by(["rack"]) == {}
    assert place.by(["rack"]) == place.by(["rack"]) == {"rack": "r1"}
    assert len(asked) == 2
