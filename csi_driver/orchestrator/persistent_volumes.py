"""What Kubernetes' PersistentVolumes, VolumeSnapshotContents and VolumeGroupSnapshotContents say that there is.

From its API, or from a file as `kubectl get pv,volumesnapshotcontents,volumegroupsnapshotcontents -o json` (or yaml) prints
it. The external sidecars ask for a volume by its PersistentVolume's name, for a snapshot by `snapshot-` and its
VolumeSnapshot's uid, and for one of a group by `groupsnapshot-` and its VolumeGroupSnapshot's uid.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from csi_driver.claims import Claims, GroupClaim, MemberClaim, SnapshotClaim, VolumeClaim
from csi_driver.errors import AccessDenied, ClusterUnavailable, InvalidRequest
from csi_driver.ids import Handle

_TIMEOUT_S = 60
_CONTENTS = {
    "snapshot.storage.k8s.io": "volumesnapshotcontents",
    "groupsnapshot.storage.k8s.io": "volumegroupsnapshotcontents",
}
"""By API group, where the cluster has it."""
_DENIED = frozenset({401, 403})

_GROUP_HANDLE = "volumeGroupSnapshotHandle"
_MEMBERS = ("volumeSnapshotInfoList", "volumeSnapshotHandlePairList")
"""Since v1beta2, and before."""

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
        tuple(_groups(of_kind.get("VolumeGroupSnapshotContent", []), driver_name, translate)),
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
            kms_id=_kms_of(attributes),
        )


def _kms_of(attributes: Mapping[str, Any]) -> str:
    return (attributes.get("encryptionKMSID") or "default") if attributes.get("encrypted") == "true" else ""


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


def _groups(objects: list[Mapping[str, Any]], driver_name: str, translate: Translate) -> Iterator[GroupClaim]:
    for one in objects:
        spec, status = one.get("spec") or {}, one.get("status") or {}
        given = (spec.get("source") or {}).get("groupSnapshotHandles") or {}
        handle = Handle.parse(str(status.get(_GROUP_HANDLE) or given.get(_GROUP_HANDLE) or ""))
        uid = (spec.get("volumeGroupSnapshotRef") or {}).get("uid", "")
        if spec.get("driver") != driver_name or handle is None or not uid:
            continue
        listed: list[Mapping[str, Any]] = next((status[key] for key in _MEMBERS if status.get(key)), [])
        members = (_member(one, translate) for one in listed)
        yield GroupClaim(translate(handle), f"groupsnapshot-{uid}", tuple(filter(None, members)))


def _member(pair: Mapping[str, Any], translate: Translate) -> MemberClaim | None:
    source, snapshot = (Handle.parse(str(pair.get(key))) for key in ("volumeHandle", "snapshotHandle"))
    return MemberClaim(translate(source), translate(snapshot)) if source and snapshot else None


def of_environment() -> Any:
    """The client of the cluster that the kubeconfig names, or in which this process is a pod."""
    from kubernetes import client, config  # noqa: PLC0415 - half a second and 26 MB, for whoever needs it

    config.load_config()
    return client.ApiClient()


def read_objects(connect: Callable[[], Any] = of_environment) -> list[Mapping[str, Any]]:
    """From the API. Raises AccessDenied, ClusterUnavailable."""
    from kubernetes import client, config  # noqa: PLC0415 - as in `of_environment`
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    needed = (
        "it needs get and list on persistentvolumes, volumesnapshotcontents.snapshot.storage.k8s.io and, where there "
        "are groups, volumegroupsnapshotcontents.groupsnapshot.storage.k8s.io"
    )
    try:
        api = connect()
        core = client.CoreV1Api(api)
        volumes = api.sanitize_for_serialization(core.list_persistent_volume(_request_timeout=_TIMEOUT_S))["items"]
        return [{**one, "kind": "PersistentVolume"} for one in volumes] + _contents(client, api)
    except client.ApiException as error:
        if error.status in _DENIED:
            raise AccessDenied(f"the Kubernetes API refuses: {needed} ({error.status} {error.reason})") from error
        raise ClusterUnavailable(f"the Kubernetes API does not tell volumes: {error.status} {error.reason}") from error
    except (HTTPError, config.ConfigException, OSError) as error:
        raise ClusterUnavailable(
            f"the Kubernetes API cannot be asked: {error}; --objects names a file instead"
        ) from error


def _contents(client: Any, api: Any) -> list[Mapping[str, Any]]:
    """Of snapshots and of groups of them, in the version that the cluster prefers."""
    found: list[Mapping[str, Any]] = []
    served = {one.name: one.preferred_version.version for one in client.ApisApi(api).get_api_versions().groups}
    for group, resource in _CONTENTS.items():
        if group in served:
            found += client.CustomObjectsApi(api).list_cluster_custom_object(
                group, served[group], resource, _request_timeout=_TIMEOUT_S
            )["items"]
    return found
