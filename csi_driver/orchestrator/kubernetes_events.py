"""What befell a volume, told on its claim: Kubernetes events that no sidecar makes, since they are no answer to a call.

A persistent volume has the name that the volume was asked for with, and names its claim. Telling never holds up or fails what
is told of. The service account needs `get` on persistentvolumes and `create` on events.
"""

import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import structlog

from csi_driver.notices import Notice
from csi_driver.orchestrator.kubernetes_nodes import in_cluster

log = structlog.get_logger(__name__)

_TIMEOUT_S = 10
_PAUSES_S = (1, 2, 4, 8, 15)


class KubernetesEvents:
    """Events on claims."""

    def __init__(self, driver_name: str, connect: Callable[[], Any] = in_cluster) -> None:
        self._driver_name = driver_name
        self._connect = connect

    def tell(self, notice: Notice) -> None:
        """Returns at once."""
        threading.Thread(target=self._tell, args=(notice, datetime.now(UTC)), name="event", daemon=True).start()

    def _tell(self, notice: Notice, at: datetime) -> None:
        from kubernetes.client import ApiException, CoreV1Api  # noqa: PLC0415 - as in `in_cluster`
        from kubernetes.config import ConfigException  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        try:
            core = CoreV1Api(self._connect())
            claim = self._claim_of(core, notice.volume_name)
            if claim:
                event = self._event(claim, notice, at)
                core.create_namespaced_event(claim.namespace, event, _request_timeout=_TIMEOUT_S)
        except (ApiException, ConfigException, HTTPError, OSError) as trouble:
            log.warning(
                "an event could not be told", volume=notice.volume_name, reason=notice.reason, trouble=repr(trouble)
            )

    def _claim_of(self, core: Any, volume_name: str) -> Any:
        """The provisioner makes the object only after CreateVolume was answered."""
        from kubernetes.client import ApiException  # noqa: PLC0415 - as above

        for pause_s in (*_PAUSES_S, None):
            try:
                return core.read_persistent_volume(volume_name, _request_timeout=_TIMEOUT_S).spec.claim_ref
            except ApiException as trouble:
                if trouble.status != HTTPStatus.NOT_FOUND or pause_s is None:
                    raise
                time.sleep(pause_s)
        return None

    def _event(self, claim: Any, notice: Notice, at: datetime) -> dict[str, Any]:
        when = at.strftime("%Y-%m-%dT%H:%M:%SZ")
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
            "type": "Warning" if notice.is_warning else "Normal",
            "reason": notice.reason,
            "message": notice.message,
            "source": {"component": self._driver_name},
            "firstTimestamp": when,
            "lastTimestamp": when,
            "count": 1,
        }
