"""Configuration: flags as one frozen value, and the clusters file. Refuses bad input before the socket opens.

Read by the command line alone; everyone else receives values. The clusters file has the layout that existing Ceph CSI
deployments use, a JSON list of {"clusterID", "monitors": […], "rbd": {"radosNamespace"}, "readAffinity": {"enabled",
"crushLocationLabels": […]}}; other keys of theirs are ignored. Own key: "credentials": {"userID", and "userKey" or
"userKeyFile"}, for what carries no secrets.
"""

import json
import math
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from csi_driver.addresses import ClusterEntry, Credentials, ReadAffinity
from csi_driver.errors import DriverError
from csi_driver.ids import MAX_CLUSTER_ID_BYTES

log = structlog.get_logger(__name__)

DEFAULT_DRIVER_NAME = "rbd.csi.internal"
DEFAULT_CLUSTERS_FILE = Path("/etc/ceph-csi-config/config.json")
DEFAULT_KMS_FILE = Path("/etc/ceph-csi-encryption-kms-config/config.json")
MOST_FLATTENS = 16
MAX_NODE_ID_BYTES = 256

_DRIVER_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MAX_PORT = 65535
_LABEL = re.compile(r"([a-z0-9][a-z0-9.-]*/)?[A-Za-z0-9][A-Za-z0-9_.-]*")


class ConfigError(DriverError):
    """The configuration is wrong; the message is one line that names the flag or field, the value and what is allowed."""


@dataclass(frozen=True)
class ServeConfig:
    """What `rbd-csi serve` is told.

    socket_path: where to serve · node_id: this node's name · controller, node: which halves run · driver_name: as the
    CSIDriver object has it · instance: the journal's, `default` unless set · timeout_s: for a whole RPC ·
    max_volumes_per_node: 0 for no limit · has_topology: offered by every instance · node_topology: this node's segments ·
    node_topology_labels: keys of further ones, each with the label of the Kubernetes node that has its value ·
    crush_location: names of this node's buckets in the CRUSH hierarchy, by their types ·
    flatten_*: how the flatten queues are worked off ·
    fences_gone_nodes: when a volume is withdrawn from a node that is out of service ·
    metrics_address: host and port of the metrics; None: none are served · trace_file: None: nothing is traced
    otlp_endpoint: empty: nothing is sent · cluster_mapping_file: None: every handle is taken as it is ·
    kms_file: None: the passphrase of the secrets is the only key
    """

    socket_path: Path
    node_id: str
    controller: bool
    node: bool
    driver_name: str
    clusters_file: Path
    instance: str
    timeout_s: float
    max_volumes_per_node: int
    has_topology: bool
    flatten_at_once: int = 1
    flatten_rate_mib: float = 0.0
    flatten_rate_in_use_mib: float = 16.0
    node_topology: Mapping[str, str] = field(default_factory=dict)
    node_topology_labels: Mapping[str, str] = field(default_factory=dict)
    crush_location: Mapping[str, str] = field(default_factory=dict)
    fences_gone_nodes: bool = False
    metrics_address: tuple[str, int] | None = None
    trace_file: Path | None = None
    otlp_endpoint: str = ""
    cluster_mapping_file: Path | None = None
    kms_file: Path | None = None

    def __post_init__(self) -> None:
        _check_node_id(self.node_id)
        if not _DRIVER_NAME.fullmatch(self.driver_name):
            raise ConfigError(
                f"--driver-name {self.driver_name!r}: allowed are letters, digits, '.' and '-', "
                "a letter or digit first and last, at most 63 (CSI spec, GetPluginInfo)"
            )
        check_instance(self.instance)
        if not 1 <= self.timeout_s <= 3600:
            raise ConfigError(f"--timeout {self.timeout_s:g}: allowed are 1 to 3600 seconds")
        if self.max_volumes_per_node < 0:
            raise ConfigError(f"--max-volumes-per-node {self.max_volumes_per_node}: it must not be negative")
        if not 0 <= self.flatten_at_once <= MOST_FLATTENS:
            raise ConfigError(f"--flatten-at-once {self.flatten_at_once}: allowed are 0 to {MOST_FLATTENS}")
        for flag, rate in (("rate", self.flatten_rate_mib), ("rate-in-use", self.flatten_rate_in_use_mib)):
            if not 0 <= rate < math.inf:
                raise ConfigError(f"--flatten-{flag} {rate:g}: allowed is a number of MiB a second, 0 for no limit")


def check_instance(instance: str) -> None:
    """Raises ConfigError."""
    if not _INSTANCE.fullmatch(instance):
        raise ConfigError(f"--instance {instance!r}: allowed are letters, digits, '.', '_' and '-', at most 63")


def _check_node_id(node_id: str) -> None:
    size = len(node_id.encode(errors="surrogateescape"))
    if not 0 < size <= MAX_NODE_ID_BYTES or not node_id.isprintable():
        raise ConfigError(
            f"--node-id {node_id!r}: 1 to {MAX_NODE_ID_BYTES} bytes without control characters are needed"
        )


def parse_url(text: str) -> str:
    """Of a collector: http or https, with a host. Raises ConfigError."""
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ConfigError(f"--otlp-endpoint is {text!r}; needed is http://HOST:PORT or https://HOST:PORT")
    return text


def parse_address(text: str) -> tuple[str, int] | None:
    """HOST:PORT, the host in brackets where it is an IPv6 address, or empty for all; None without one. Raises ConfigError."""
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > _MAX_PORT:
        raise ConfigError(f"--metrics-address {text!r} is not HOST:PORT, with a port from 0 to {_MAX_PORT}")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 - all interfaces, as asked for


class ClustersFile:
    """The clusters file, read anew when it changes. A change that cannot be read is logged, and the last good one holds."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError."""
        self._path = path
        self._guard = threading.Lock()
        self._stamp = self._look()
        self._entries = read_clusters(path)

    def entries(self) -> Mapping[str, ClusterEntry]:
        """Entries by cluster id."""
        stamp = self._look()
        with self._guard:
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._entries = read_clusters(self._path)
                    log.info("clusters file read anew", clusters=",".join(self._entries))
                except ConfigError as error:
                    log.warning("clusters file changed and cannot be read; the last good one holds", reason=str(error))
            return self._entries

    def own_ids(self) -> list[str]:
        """Ids of the clusters for which the driver has credentials of its own, in order."""
        return sorted(one.cluster_id for one in self.entries().values() if one.credentials)

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_ino, found.st_mtime_ns, found.st_size)


def read_clusters(path: Path) -> dict[str, ClusterEntry]:
    """Raises ConfigError that names the file, the entry and the field."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"clusters file {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"clusters file {path} is not JSON: {error}") from error
    if not isinstance(content, list) or not content:
        raise ConfigError(f"clusters file {path} is not a list of at least one cluster")
    entries: dict[str, ClusterEntry] = {}
    for number, item in enumerate(content):
        try:
            entry = _parse_entry(item)
        except ConfigError as error:
            raise ConfigError(f"clusters file {path}, entry {number}: {error}") from error
        if entry.cluster_id in entries:
            raise ConfigError(f"clusters file {path}, entry {number}: clusterID {entry.cluster_id!r} is there twice")
        entries[entry.cluster_id] = entry
    return entries


def _parse_entry(item: Any) -> ClusterEntry:
    if not isinstance(item, dict):
        raise ConfigError(f"{item!r} is not an object")
    cluster_id = _text(item, "clusterID")
    if not 0 < len(cluster_id.encode()) <= MAX_CLUSTER_ID_BYTES:
        raise ConfigError(f"clusterID {cluster_id!r}: 1 to {MAX_CLUSTER_ID_BYTES} bytes are allowed")
    monitors = item.get("monitors")
    if not isinstance(monitors, list) or not monitors or not all(isinstance(one, str) and one for one in monitors):
        raise ConfigError(f"monitors of {cluster_id!r} is not a list of at least one address")
    rbd = item.get("rbd") or {}
    if not isinstance(rbd, dict):
        raise ConfigError(f"rbd of {cluster_id!r} is not an object")
    return ClusterEntry(
        cluster_id,
        tuple(monitors),
        _text(rbd, "radosNamespace"),
        _credentials(item, cluster_id),
        _read_affinity(item, cluster_id),
    )


def _credentials(item: Mapping[str, Any], cluster_id: str) -> Credentials | None:
    given = item.get("credentials")
    if given is None:
        return None
    if not isinstance(given, dict):
        raise ConfigError(f"credentials of {cluster_id!r} is not an object")
    user, key, key_file = _text(given, "userID"), _text(given, "userKey"), _text(given, "userKeyFile")
    if key_file:
        try:
            key = Path(key_file).read_text().strip()
        except OSError as error:
            raise ConfigError(f"userKeyFile {key_file} of {cluster_id!r}: {error.strerror}") from error
        except ValueError as error:
            raise ConfigError(f"userKeyFile {key_file} of {cluster_id!r} is not text") from error
    if not user or not key:
        raise ConfigError(f"credentials of {cluster_id!r} need userID, and userKey or userKeyFile")
    return Credentials(user.removeprefix("client."), key)


def _read_affinity(item: Mapping[str, Any], cluster_id: str) -> ReadAffinity | None:
    given = item.get("readAffinity") or {}
    if not isinstance(given, dict):
        raise ConfigError(f"readAffinity of {cluster_id!r} is not an object")
    is_enabled, labels = given.get("enabled", False), given.get("crushLocationLabels") or []
    if not isinstance(is_enabled, bool):
        raise ConfigError(f"readAffinity.enabled of {cluster_id!r} is {is_enabled!r}; allowed are true and false")
    if not isinstance(labels, list) or not all(isinstance(one, str) and _LABEL.fullmatch(one) for one in labels):
        raise ConfigError(
            f"readAffinity.crushLocationLabels of {cluster_id!r} is {labels!r}; needed is a list of labels of nodes"
        )
    return ReadAffinity(tuple(labels)) if is_enabled else None


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key, "")
    if not isinstance(value, str) or not value.isprintable():
        raise ConfigError(f"{key} is {value!r}; a text without control characters is needed")
    return value
