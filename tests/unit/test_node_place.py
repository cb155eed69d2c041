"""Where a node is, by the flags of `rbd-csi serve`."""

import re

import pytest

from csi_driver.config import ConfigError
from csi_driver.node_place import parse_crush_location, parse_topology, parse_topology_labels


@pytest.mark.parametrize(
    ("pairs", "segments"),
    [
        ((), {}),
        (("zone=a",), {"zone": "a"}),
        (
            ("topology.kubernetes.io/zone=a-1", "topology.kubernetes.io/region=R_2.b"),
            {"topology.kubernetes.io/zone": "a-1", "topology.kubernetes.io/region": "R_2.b"},
        ),
    ],
)
def test_segments_of_topology_are_read(pairs: tuple[str, ...], segments: dict[str, str]) -> None:
    assert parse_topology(pairs) == segments


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (("zone",), "'zone'"),
        (("",), "KEY=VALUE"),
        (("=a",), "'=a'"),
        (("zone=",), "'zone='"),
        (("zone=a=b",), "'zone=a=b'"),
        (("zone=a b",), "'zone=a b'"),
        (("-zone=a",), "'-zone=a'"),
        (("zone=" + "x" * 64,), "KEY=VALUE"),
        (("/zone=a",), "'/zone=a'"),
        (("A.b/zone=a",), "A.b/zone"),
        (("a/b/zone=a",), "a/b/zone"),
        (("zone=a", "zone=b"), "'zone' is given twice"),
        (("a.b/zone=a", "c.d/region=b"), "a.b, c.d"),
        (("a.b/zone=a", "region=b"), "same prefix"),
    ],
    ids=str,
)
def test_bad_segments_are_refused_by_what_was_given(pairs: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        parse_topology(pairs)
    assert str(refused.value).startswith("--node-topology")


def test_labels_of_topology_are_read() -> None:
    wanted = ("topology.x/zone=topology.kubernetes.io/zone", "topology.x/rack=rack")
    assert parse_topology_labels(wanted, {}) == {
        "topology.x/zone": "topology.kubernetes.io/zone",
        "topology.x/rack": "rack",
    }


@pytest.mark.parametrize("pair", ["zone", "=zone", "zone=", "a b=zone", "zone=a b", "x/zone=zone", "other=zone"])
def test_another_form_of_a_topology_label_is_refused(pair: str) -> None:
    """Also a key that is given otherwise, or with another prefix than that."""
    with pytest.raises(ConfigError, match="topology"):
        parse_topology_labels((pair,), {"other": "a"})


def test_buckets_are_read_by_their_types() -> None:
    assert parse_crush_location(("zone=z1", "host=node-1.a")) == {"zone": "z1", "host": "node-1.a"}


@pytest.mark.parametrize(
    "pairs", [("zone",), ("=a",), ("zone=",), ("zone=a|rack:b",), ("zone=a", "zone=b"), ("zo ne=a",)]
)
def test_other_forms_of_a_bucket_are_refused_by_what_was_given(pairs: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="--crush-location '"):
        parse_crush_location(pairs)
