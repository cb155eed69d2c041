"""Where this node is, by its flags: segments of topology, and buckets of the CRUSH hierarchy."""

import re
from collections.abc import Mapping

from csi_driver.config import ConfigError

_TOPOLOGY_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_TOPOLOGY_PREFIX = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_BUCKET = re.compile(r"[A-Za-z0-9_.-]+")
"""Of a type and of a name (Ceph: CrushWrapper::is_valid_crush_name)."""


def parse_topology(pairs: tuple[str, ...]) -> dict[str, str]:
    """Segments KEY=VALUE, their keys with one prefix (CSI spec, Topology). Raises ConfigError."""
    segments: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        prefix, slash, name = key.rpartition("/")
        is_good = equals and _TOPOLOGY_NAME.fullmatch(name) and _TOPOLOGY_NAME.fullmatch(value)
        if not is_good or (slash and not _TOPOLOGY_PREFIX.fullmatch(prefix)):
            raise ConfigError(f"--node-topology {pair!r} is not [PREFIX/]KEY=VALUE (names as of Kubernetes labels)")
        if key in segments:
            raise ConfigError(f"--node-topology {key!r} is given twice")
        segments[key] = value
    prefixes = {key.rpartition("/")[0] for key in segments}
    if len(prefixes) > 1:
        raise ConfigError(f"--node-topology: all keys need the same prefix, these have {', '.join(sorted(prefixes))}")
    return segments


def parse_topology_labels(pairs: tuple[str, ...], segments: Mapping[str, str]) -> dict[str, str]:
    """Keys of topology with the label of each, KEY=LABEL; not those of `segments`. Raises ConfigError."""
    labels: dict[str, str] = {}
    for pair in pairs:
        key, equals, label = pair.partition("=")
        parts = [part.rpartition("/") for part in (key, label)]
        is_good = all(
            _TOPOLOGY_NAME.fullmatch(name) and (not slash or _TOPOLOGY_PREFIX.fullmatch(prefix))
            for prefix, slash, name in parts
        )
        if not equals or not is_good:
            raise ConfigError(
                f"--node-topology-label {pair!r} is not [PREFIX/]KEY=[PREFIX/]LABEL (names as of Kubernetes labels)"
            )
        if key in labels or key in segments:
            raise ConfigError(f"--node-topology-label {key!r} is given twice, or with --node-topology")
        labels[key] = label
    prefixes = {key.rpartition("/")[0] for key in (*labels, *segments)}
    if len(prefixes) > 1:
        raise ConfigError(f"topology: all keys need the same prefix, these have {', '.join(sorted(prefixes))}")
    return labels


def parse_crush_location(pairs: tuple[str, ...]) -> dict[str, str]:
    """Names of buckets by their types, TYPE=NAME. Raises ConfigError."""
    found: dict[str, str] = {}
    for pair in pairs:
        kind, _equals, name = pair.partition("=")
        if not _BUCKET.fullmatch(kind) or not _BUCKET.fullmatch(name):
            raise ConfigError(
                f"--crush-location {pair!r} is not TYPE=NAME; allowed in both are letters, digits, '_', '.' and '-'"
            )
        if kind in found:
            raise ConfigError(f"--crush-location {kind!r} is given twice")
        found[kind] = name
    return found
