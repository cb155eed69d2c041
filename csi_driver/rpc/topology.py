"""Topology in requests and parameters: from CSI's messages and the class's JSON to segments by key.

`topologyConstrainedPools` has the form that the widely deployed Ceph CSI driver gave it. A domain label without a prefix is
a key below the driver's own, `topology.<driver name>/<label>`, as that driver has it too.
"""

import json
from collections.abc import Mapping
from typing import Any

from csi_driver.errors import InvalidRequest
from csi_driver.model import ConstrainedPool, Segments
from csi_driver.pb import csi_pb2 as pb
from csi_driver.rpc.fields import check_map, check_text

KEY = "topologyConstrainedPools"
_FORM = '[{"poolName": …, "dataPool": …, "domainSegments": [{"domainLabel": …, "value": …}, …]}, …]'


def parse_requirement(requirement: pb.TopologyRequirement) -> tuple[Segments, ...]:
    """The topologies asked for, each once, the preferred first. Raises InvalidRequest."""
    asked: dict[frozenset[tuple[str, str]], Segments] = {}
    for field in ("preferred", "requisite"):
        for topology in getattr(requirement, field):
            segments = check_map(f"accessibility_requirements.{field}.segments", topology.segments)
            if not segments:
                raise InvalidRequest(f"accessibility_requirements.{field}: a topology without segments is not allowed")
            asked.setdefault(frozenset(segments.items()), dict(segments))
    return tuple(asked.values())


def parse_constrained_pools(text: str, driver_name: str) -> tuple[ConstrainedPool, ...]:
    """driver_name: empty where topology is not offered. Raises InvalidRequest that says what is wrong with which entry."""
    if not text:
        return ()
    if not driver_name:
        raise InvalidRequest(
            f"parameter {KEY}: this driver runs without --topology, so that no pool can be bound to a zone"
        )
    try:
        entries = json.loads(text)
    except ValueError as odd:
        raise InvalidRequest(f"parameter {KEY} is not JSON: {odd}; needed is {_FORM}") from odd
    if not isinstance(entries, list) or not entries:
        raise InvalidRequest(f"parameter {KEY} is {text!r}; needed is a list of at least one pool: {_FORM}")
    pools = tuple(_pool(number, entry, driver_name) for number, entry in enumerate(entries))
    names = [pool.name for pool in pools]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidRequest(f"parameter {KEY}: pool {', '.join(sorted(twice))} is there twice")
    return pools


def accessible_topology(segments: Segments) -> list[pb.Topology]:
    """As the answers have it: empty for what every node can reach."""
    return [pb.Topology(segments=dict(segments))] if segments else []


def _pool(number: int, entry: Any, driver_name: str) -> ConstrainedPool:
    where = f"parameter {KEY}, entry {number}"
    if not isinstance(entry, dict) or entry.keys() - {"poolName", "dataPool", "domainSegments"}:
        raise InvalidRequest(f"{where} is {entry!r}; needed is {_FORM}")
    domains = entry.get("domainSegments")
    if not isinstance(domains, list) or not domains:
        raise InvalidRequest(f"{where}: domainSegments is {domains!r}; needed is a list of at least one domain")
    segments: dict[str, str] = {}
    for domain in domains:
        if not isinstance(domain, dict):
            raise InvalidRequest(f"{where}: {domain!r} is not a domain; needed is {_FORM}")
        label = _text(where, domain, "domainLabel")
        key = label if "/" in label else f"topology.{driver_name}/{label}"
        if key in segments:
            raise InvalidRequest(f"{where}: domainLabel {label!r} is there twice")
        segments[key] = _text(where, domain, "value")
    data_pool = _text(where, entry, "dataPool") if entry.get("dataPool") else ""
    return ConstrainedPool(_text(where, entry, "poolName"), data_pool, segments)


def _text(where: str, values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{where}: {key} is {value!r}; a text is needed")
    return check_text(f"{where}: {key}", value)
