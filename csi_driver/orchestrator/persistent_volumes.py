"""What Kubernetes' PersistentVolumes and VolumeSnapshotContents say that there is.

From its API, or from a file as `kubectl get pv,volumesnapshotcontents -o json` (or yaml) prints it. The external sidecars
ask for a volume by its PersistentVolume's name, and for a snapshot by `snapshot-` and its VolumeSnapshot's uid.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from csi_driver.claims import Claims, SnapshotClaim, VolumeClaim
from csi_driver.errors import AccessDenied, ClusterUnavailable, InvalidRequest
from csi_driver.ids import Handle

_TIMEOUT_S = 60
_MISSING = 404
_DENIED = frozenset({401, 403})

Translate = Callable[[Handle], Handle]


def parse_objects(text: str) -> list[Mapping[str, Any]]:
    """Objects of a file: one, a list of them, or several YAML documents. Raises InvalidRequest."""
    import yaml  # noqa: PLC0415 - for whoever needs it

    try:
        documents = [one for one in yaml.safe_load_all(text) if one is not None]
    except yaml.YAMLError as error:
        raise InvalidRequest(f"it is neither JSON nor YAML: {error}") from error
    objects = [item for one in documents for item in _items(one)]
    if odd := next((one for one in objects if not isinstance(one, dict) or "kind" not in one), None):
        raise InvalidRequest(f"{str(odd)[:60]!r} is no object of Kubernetes: it has no kind")
    return objects


def _items(document: Any) -> list[Any]:
    if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
        return list(document.get("items") or [])
    return [document]


def claims_of(objects: list[Mapping[str, Any]], driver_name: str, translate: Translate) -> Claims:
    """Those of this driver. translate: from the cluster that they were made in to the one that has its place."""
    of_kind: dict[str, list[Mapping[str, Any]]] = {}
    for one in objects:
        of_kind.setdefault(str(one["kind"]), []).append(one)
    return Claims(
        tuple(_volumes(of_kind.get("PersistentVolume", []), driver_name, translate)),
        tuple(_snapshots(of_kind.get("VolumeSnapshotContent", []), driver_name, translate)),
    )


def _volumes(objects: list[Mapping[str, Any]], driver_name: str, translate: Translate) -> Iterator[VolumeClaim]:
    for one in objects:
        spec = one.get("spec") or {}
        csi = spec.get("csi") or {}
        handle = Handle.parse(str(csi.get("volumeHandle", "")))
        attributes = csi.get("volumeAttributes") or {}
        if csi.get("driver") != driver_name or handle is None or attributes.get("staticVolume") == "true":
            continue
        yield VolumeClaim(
            translate(handle),
            one["metadata"]["name"],
            attributes.get("imageName", ""),
            (spec.get("claimRef") or {}).get("namespace", ""),
            attributes.get("journalPool", ""),
            is_encrypted=attributes.get("encrypted") == "true",
        )


def _snapshots(objects: list[Mapping[str, Any]], driver_name: str, translate: Translate) -> Iterator[SnapshotClaim]:
    for one in objects:
        spec, status = one.get("spec") or {}, one.get("status") or {}
        given = spec.get("source") or {}
        handle = Handle.parse(str(status.get("snapshotHandle") or given.get("snapshotHandle") or ""))
        uid = (spec.get("volumeSnapshotRef") or {}).get("uid", "")
        if spec.get("driver") != driver_name or handle is None or not uid:
            continue
        source = Handle.parse(str(given.get("volumeHandle") or ""))
        yield SnapshotClaim(translate(handle), f"snapshot-{uid}", translate(source) if source else None)


def of_environment() -> Any:
    """The client of the cluster that the kubeconfig names, or in which this process is a pod."""
    from kubernetes import client, config  # noqa: PLC0415 - half a second and 26 MB, for whoever needs it

    config.load_config()
    return client.ApiClient()


def read_objects(connect: Callable[[], Any] = of_environment) -> list[Mapping[str, Any]]:
    """From the API. Raises AccessDenied, ClusterUnavailable."""
    from kubernetes import client, config  # noqa: PLC0415 - as in `of_environment`
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    needed = "it needs get and list on persistentvolumes and volumesnapshotcontents.snapshot.storage.k8s.io"
    try:
        api = connect()
        core = client.CoreV1Api(api)
        volumes = api.sanitize_for_serialization(core.list_persistent_volume(_request_timeout=_TIMEOUT_S))["items"]
        objects = [{**one, "kind": "PersistentVolume"} for one in volumes]
        return objects + _contents(client, api)
    except client.ApiException as error:
        if error.status in _DENIED:
            raise AccessDenied(f"the Kubernetes API refuses: {needed} ({error.status} {error.reason})") from error
        raise ClusterUnavailable(f"the Kubernetes API does not tell volumes: {error.status} {error.reason}") from error
    except (HTTPError, config.ConfigException, OSError) as error:
        raise ClusterUnavailable(
            f"the Kubernetes API cannot be asked: {error}; --objects names a file instead"
        ) from error


def _contents(client: Any, api: Any) -> list[Mapping[str, Any]]:
    """None in a cluster without snapshots."""
    try:
        found = client.CustomObjectsApi(api).list_cluster_custom_object(
            "snapshot.storage.k8s.io", "v1", "volumesnapshotcontents", _request_timeout=_TIMEOUT_S
        )
    except client.ApiException as error:
        if error.status == _MISSING:
            return []
        raise
    return list(found["items"])
