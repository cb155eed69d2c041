"""Topology: what is parsed of class and request, and which pool is chosen."""

import json
import re

import pytest

from csi_driver.errors import InvalidRequest, NoSpace
from csi_driver.model import CapacityRange, ConstrainedPool, ImageLayout, Segments, VolumeSpec
from csi_driver.operations.topology import bound_to, choose_pool, is_reachable
from csi_driver.pb import csi_pb2 as pb
from csi_driver.rpc.topology import parse_constrained_pools, parse_requirement

EAST, WEST = {"region": "east"}, {"region": "west"}
EAST_1 = {"region": "east", "zone": "1"}
POOLS = (ConstrainedPool("pool-e1", "ec-e1", EAST_1), ConstrainedPool("pool-w", "", WEST))


def spec(*wishes: Segments) -> VolumeSpec:
    return VolumeSpec(
        "n", "c", "names", CapacityRange(), 1, (), ImageLayout(()), constrained_pools=POOLS, reachable_from=wishes
    )


@pytest.mark.parametrize(
    ("wishes", "pool"),
    [
        ((), "pool-e1"),
        ((EAST_1,), "pool-e1"),
        ((WEST,), "pool-w"),
        (({**WEST, "host": "h"}, EAST_1), "pool-w"),
        ((EAST, WEST), "pool-w"),
        (({"region": "north"}, EAST_1, WEST), "pool-e1"),
    ],
)
def test_the_first_topology_that_a_pool_fits_decides(wishes: tuple[Segments, ...], pool: str) -> None:
    assert choose_pool(spec(*wishes)).name == pool


def test_no_pool_that_fits_is_refused_with_what_there_is() -> None:
    with pytest.raises(NoSpace, match=r"region=north.*pool-e1: region=east, zone=1; pool-w: region=west"):
        choose_pool(spec({"region": "north"}))


def test_a_chosen_pool_brings_its_data_pool_and_topology() -> None:
    bound = bound_to(spec(), POOLS[0])
    assert (bound.pool, bound.layout.data_pool, bound.topology) == ("pool-e1", "ec-e1", EAST_1)


def test_what_is_bound_to_nothing_is_reachable_from_everywhere() -> None:
    assert is_reachable({}, [EAST])
    assert is_reachable(EAST, [])
    assert is_reachable(EAST, [WEST, EAST_1])
    assert not is_reachable(EAST_1, [EAST])


def entry(**changes: object) -> dict[str, object]:
    return {"poolName": "p", "domainSegments": [{"domainLabel": "zone", "value": "1"}], **changes}


def test_labels_stand_below_the_drivers_own_key_unless_they_have_a_prefix() -> None:
    domains = [{"domainLabel": "zone", "value": "1"}, {"domainLabel": "topology.kubernetes.io/region", "value": "e"}]
    (pool,) = parse_constrained_pools(json.dumps([entry(dataPool="d", domainSegments=domains)]), "rbd.example")
    assert pool == ConstrainedPool("p", "d", {"topology.rbd.example/zone": "1", "topology.kubernetes.io/region": "e"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "at least one pool"),
        ('{"poolName": "p"}', "a list"),
        ("[1]", "entry 0 is 1"),
        (json.dumps([entry(poolName="")]), "entry 0: poolName is ''"),
        (json.dumps([entry(poolName=5)]), "entry 0: poolName is 5"),
        (json.dumps([entry(), entry()]), "pool p is there twice"),
        (json.dumps([entry(domainSegments=[])]), "entry 0: domainSegments"),
        (json.dumps([entry(domainSegments=["zone"])]), "'zone' is not a domain"),
        (json.dumps([entry(domainSegments=[{"domainLabel": "zone"}])]), "value is None"),
        (json.dumps([entry(domainSegments=[{"domainLabel": "z", "value": "1"}] * 2)]), "'z' is there twice"),
        (json.dumps([entry(pool="p")]), "entry 0 is"),
    ],
)
def test_another_form_is_refused_with_the_entry_and_what_is_needed(text: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(says)) as refused:
        parse_constrained_pools(text, "rbd.example")
    assert "topologyConstrainedPools" in str(refused.value)


def test_a_driver_without_topology_refuses_bound_pools() -> None:
    with pytest.raises(InvalidRequest, match="without --topology"):
        parse_constrained_pools(json.dumps([entry()]), "")
    assert parse_constrained_pools("", "") == ()


def test_preferred_topologies_come_before_the_others_and_each_once() -> None:
    asked = pb.TopologyRequirement(
        requisite=[pb.Topology(segments=EAST), pb.Topology(segments=WEST)], preferred=[pb.Topology(segments=WEST)]
    )
    assert parse_requirement(asked) == (WEST, EAST)
    with pytest.raises(InvalidRequest, match="without segments"):
        parse_requirement(pb.TopologyRequirement(requisite=[pb.Topology()]))
