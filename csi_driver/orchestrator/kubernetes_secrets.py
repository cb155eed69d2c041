"""A named Secret of Kubernetes, for KMS entries with `secretName`. The service account needs `get` on that Secret alone."""

import base64
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from csi_driver.errors import AccessDenied, ClusterUnavailable, InvalidRequest
from csi_driver.orchestrator.kubernetes_nodes import in_cluster
from csi_driver.tracing import step

_TIMEOUT_S = 10
_MISSING = 404
_DENIED = frozenset({401, 403})


def read_secret(namespace: str, name: str, connect: Callable[[], Any] = in_cluster) -> Mapping[str, str]:
    """What it holds, as text. Raises InvalidRequest when it is not there, AccessDenied, ClusterUnavailable."""
    from kubernetes.client import ApiException, CoreV1Api  # noqa: PLC0415 - as in `in_cluster`
    from kubernetes.config import ConfigException  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    secret = f"Secret {namespace}/{name}"
    try:
        with step("kubernetes.read_secret", f"{namespace}/{name}"), closing(connect()) as opened:
            found = CoreV1Api(opened).read_namespaced_secret(name, namespace, _request_timeout=_TIMEOUT_S)
    except ApiException as error:
        if error.status == _MISSING:
            raise InvalidRequest(f"there is no {secret}, which secretName of the KMS entry means") from None
        if error.status in _DENIED:
            raise AccessDenied(f"this service account may not get the {secret}, which a KMS entry names") from None
        raise ClusterUnavailable(f"the Kubernetes API does not tell the {secret}: {error.status}") from None
    except (HTTPError, ConfigException, OSError) as error:
        raise ClusterUnavailable(f"the Kubernetes API does not tell the {secret}: {error}") from error
    return {key: base64.b64decode(value).decode(errors="replace") for key, value in (found.data or {}).items()}
