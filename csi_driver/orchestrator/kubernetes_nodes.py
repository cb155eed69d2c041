"""Nodes as the Kubernetes API tells of them: the only `import kubernetes`, and only when a node is first asked for.

A node is known when its CSINode names this driver with the node id; its limit is the `allocatable` there. It is gone when its
Node has the taint `node.kubernetes.io/out-of-service`, which an operator sets who knows that the machine is off. A Node that
is merely missing, or not ready, may run on and write. The service account needs `get` and `list` on csinodes.storage.k8s.io
and `get` on nodes.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from csi_driver.errors import AccessDenied, ClusterUnavailable, NotReady
from csi_driver.journal.nodes import NodeRecord
from csi_driver.tracing import step

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_TIMEOUT_S = 10
_MISSING = 404
_DENIED = frozenset({401, 403})


def in_cluster() -> Any:
    """The client of the cluster in which this process is a pod."""
    from kubernetes import client, config  # noqa: PLC0415 - half a second and 26 MB, for whoever needs it

    configuration = client.Configuration()
    config.load_incluster_config(client_configuration=configuration)
    return client.ApiClient(configuration)


class KubernetesNodes:
    """`Nodes` by the API's CSINode and Node objects."""

    def __init__(self, driver_name: str, connect: Callable[[], Any] = in_cluster) -> None:
        self._driver_name = driver_name
        self._connect = connect
        self._guard = threading.Lock()
        self._client: Any = None

    def find(self, node_id: str) -> NodeRecord | None:
        """Raises AccessDenied, ClusterUnavailable."""
        with _translated("which nodes there are"), step("kubernetes.find_node", node_id):
            found = self._csi_node(node_id)
        if found is None:
            return None
        _, driver = found
        return NodeRecord(node_id, (driver.allocatable and driver.allocatable.count) or 0)

    def is_gone(self, node_id: str) -> bool:
        """Raises AccessDenied, ClusterUnavailable."""
        with _translated(f"whether node {node_id!r} is out of service"), step("kubernetes.find_taints", node_id):
            found = self._csi_node(node_id)
            node = self._get(
                lambda: self._core().read_node(found[0] if found else node_id, _request_timeout=_TIMEOUT_S)
            )
        taints = (node.spec.taints or []) if node else []
        return any(taint.key == OUT_OF_SERVICE for taint in taints)

    def topology(self, node: str, labels: Mapping[str, str]) -> dict[str, str]:
        """The values of a Node's labels, by the keys of topology that they are for.

        Raises AccessDenied, ClusterUnavailable; NotReady for a node without one of them.
        """
        present = self.labels(node)
        if missing := [label for label in labels.values() if label not in present]:
            raise NotReady(f"node {node!r} has no label {', '.join(missing)}, which --node-topology-label names")
        return {key: present[label] for key, label in labels.items()}

    def labels(self, node: str) -> dict[str, str]:
        """Of a Node; none where there is no such Node. Raises AccessDenied, ClusterUnavailable."""
        with _translated(f"the labels of node {node!r}"), step("kubernetes.labels", node):
            found = self._get(lambda: self._core().read_node(node, _request_timeout=_TIMEOUT_S))
        return dict(found.metadata.labels or {}) if found else {}

    def _csi_node(self, node_id: str) -> tuple[str, Any] | None:
        """Name and this driver's part of the CSINode with this node id; in most clusters that is the node's name."""
        named = self._get(lambda: self._storage().read_csi_node(node_id, _request_timeout=_TIMEOUT_S))
        if named and (driver := self._driver_of(named, node_id)):
            return named.metadata.name, driver
        for one in self._storage().list_csi_node(_request_timeout=_TIMEOUT_S).items:
            if driver := self._driver_of(one, node_id):
                return one.metadata.name, driver
        return None

    def _driver_of(self, csi_node: Any, node_id: str) -> Any:
        drivers = csi_node.spec.drivers or []
        return next((one for one in drivers if (one.name, one.node_id) == (self._driver_name, node_id)), None)

    def _get(self, read: Callable[[], Any]) -> Any:
        """None for what is not there."""
        from kubernetes.client import ApiException  # noqa: PLC0415 - as in `in_cluster`

        try:
            return read()
        except ApiException as error:
            if error.status == _MISSING:
                return None
            raise

    def _storage(self) -> Any:
        from kubernetes.client import StorageV1Api  # noqa: PLC0415 - as in `in_cluster`

        return StorageV1Api(self._connected())

    def _core(self) -> Any:
        from kubernetes.client import CoreV1Api  # noqa: PLC0415 - as in `in_cluster`

        return CoreV1Api(self._connected())

    def _connected(self) -> Any:
        with self._guard:
            if self._client is None:
                self._client = self._connect()
            return self._client


@contextmanager
def _translated(asking: str) -> Iterator[None]:
    from kubernetes.client import ApiException  # noqa: PLC0415 - as in `in_cluster`
    from kubernetes.config import ConfigException  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    try:
        yield
    except ApiException as error:
        if error.status in _DENIED:
            raise AccessDenied(
                f"the Kubernetes API does not tell this service account {asking}: it needs get and list on "
                f"csinodes.storage.k8s.io, and get on nodes ({error.status} {error.reason})"
            ) from error
        raise ClusterUnavailable(f"the Kubernetes API does not tell {asking}: {error.status} {error.reason}") from error
    except (HTTPError, ConfigException, OSError) as error:
        raise ClusterUnavailable(f"the Kubernetes API does not tell {asking}: {error}") from error
