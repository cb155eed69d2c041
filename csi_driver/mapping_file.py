"""The file of cluster mappings, in the layout of the widely deployed Ceph CSI driver's `cluster-mapping.json`:

    [{"clusterIDMapping": {"old": "new"}, "RBDPoolIDMapping": [{"1": "2"}]}]

Other keys of it are ignored.
"""

import json
from pathlib import Path
from typing import Any

from csi_driver.cluster_mapping import ClusterMapping, ClusterPair
from csi_driver.config import ConfigError


def read_cluster_mapping(path: Path | None) -> ClusterMapping:
    """Empty without a file. Raises ConfigError that names the file, the entry and the field."""
    if path is None:
        return ClusterMapping()
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"--cluster-mapping {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--cluster-mapping {path} is not JSON: {error}") from error
    if not isinstance(content, list):
        raise ConfigError(f"--cluster-mapping {path} is not a list")
    try:
        return ClusterMapping(tuple(_pair(number, item) for number, item in enumerate(content)))
    except ConfigError as error:
        raise ConfigError(f"--cluster-mapping {path}, {error}") from error


def _pair(number: int, item: Any) -> ClusterPair:
    if not isinstance(item, dict):
        raise ConfigError(f"entry {number}: {item!r} is not an object")
    clusters, pools = item.get("clusterIDMapping"), item.get("RBDPoolIDMapping") or []
    if not isinstance(clusters, dict) or not all(old and isinstance(new, str) and new for old, new in clusters.items()):
        raise ConfigError(f"entry {number}: clusterIDMapping is {clusters!r}; needed is an object of cluster ids")
    if not isinstance(pools, list) or not all(isinstance(one, dict) for one in pools):
        raise ConfigError(f"entry {number}: RBDPoolIDMapping is {pools!r}; needed is a list of objects")
    numbers = {}
    for old, new in (pair for one in pools for pair in one.items()):
        if not all(isinstance(one, str) and one.isdecimal() for one in (old, new)):
            raise ConfigError(f"entry {number}: RBDPoolIDMapping has {old!r}: {new!r}; needed are pool ids as texts")
        numbers[int(old)] = int(new)
    return ClusterPair(clusters, numbers)
