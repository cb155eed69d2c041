"""What befell a volume, told on its claim: Kubernetes events that no sidecar makes, since it answers no call of theirs.

A persistent volume has the name that the volume was asked for with, and names its claim. Telling never holds up or fails what
is told of. The service account needs `get` on persistentvolumes and `create` on events.
"""

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from csi_driver.orchestrator.kubernetes_nodes import in_cluster

log = structlog.get_logger(__name__)

_TIMEOUT_S = 10


class KubernetesEvents:
    """Warnings on claims."""

    def __init__(self, driver_name: str, connect: Callable[[], Any] = in_cluster) -> None:
        self._driver_name = driver_name
        self._connect = connect

    def warn(self, volume_name: str, reason: str, message: str) -> None:
        """volume_name: of the persistent volume · reason: one CamelCase word. Returns at once."""
        threading.Thread(target=self._warn, args=(volume_name, reason, message), name="event", daemon=True).start()

    def _warn(self, volume_name: str, reason: str, message: str) -> None:
        from kubernetes.client import ApiException, CoreV1Api  # noqa: PLC0415 - as in `in_cluster`
        from kubernetes.config import ConfigException  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        try:
            core = CoreV1Api(self._connect())
            claim = core.read_persistent_volume(volume_name, _request_timeout=_TIMEOUT_S).spec.claim_ref
            if claim:
                event = self._event(claim, reason, message)
                core.create_namespaced_event(claim.namespace, event, _request_timeout=_TIMEOUT_S)
        except (ApiException, ConfigException, HTTPError, OSError) as trouble:
            log.warning("an event could not be told", volume=volume_name, reason=reason, trouble=repr(trouble))

    def _event(self, claim: Any, reason: str, message: str) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        involved = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "name": claim.name,
            "namespace": claim.namespace,
        }
        if claim.uid:
            involved["uid"] = claim.uid
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{claim.name}.{uuid.uuid4().hex[:16]}", "namespace": claim.namespace},
            "involvedObject": involved,
            "type": "Warning",
            "reason": reason,
            "message": message,
            "source": {"component": self._driver_name},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
