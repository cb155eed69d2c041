"""From the Node service's requests to values: all their validation, before any lock or I/O.

Volume contexts come from volumes of any age and carry what their class said then: keys that the node half does not know
are left alone, and so are those that the kubelet adds (`csi.storage.k8s.io/...`).
"""

import shlex
from collections.abc import Mapping
from pathlib import Path

from csi_driver.errors import InvalidRequest, NotFound
from csi_driver.model import Capability
from csi_driver.operations.mounters import parse_mounter, parse_options
from csi_driver.operations.node import GrowRequest
from csi_driver.operations.publication import READ_ONLY_KEY
from csi_driver.operations.stage_parts import StageOptions, StageRequest
from csi_driver.operations.stage_record import Publication, StagePlace
from csi_driver.pb import csi_pb2 as pb
from csi_driver.rpc.encryption_parameters import PHRASE_KEY, parse_encryption, parse_luks_form
from csi_driver.rpc.fields import (
    FILE_SYSTEMS,
    check_map,
    parse_capability,
    parse_credentials,
    required_path,
)
from csi_driver.rpc.foreign_handles import refuse_ephemeral, static_image, volume_id
from csi_driver.rpc.sizes import check_range

_FS_TYPE_KEY = "csi.storage.k8s.io/fstype"


def stage(request: pb.NodeStageVolumeRequest) -> StageRequest:
    place = _place(request.volume_id, "staging_target_path", request.staging_target_path)
    capability = _capability(request)
    context = check_map("volume_context", request.volume_context)
    return StageRequest(
        place=place,
        capability=capability,
        credentials=parse_credentials(request.secrets),
        options=_stage_options(context),
        passphrase=request.secrets.get(PHRASE_KEY, ""),
        static=static_image(request.volume_id, context),
        read_only=_published_read_only(request),
    )


def unstage(request: pb.NodeUnstageVolumeRequest) -> StagePlace:
    return _place(request.volume_id, "staging_target_path", request.staging_target_path)


def publish(request: pb.NodePublishVolumeRequest) -> tuple[StagePlace, Publication]:
    volume_id(request.volume_id)
    refuse_ephemeral(check_map("volume_context", request.volume_context))
    target = _path("target_path", request.target_path)
    capability = _capability(request)
    place = _place(request.volume_id, "staging_target_path", request.staging_target_path)
    read_only = request.readonly or capability.mode.is_read_only or _published_read_only(request)
    return place, Publication(target, capability, read_only)


def unpublish(request: pb.NodeUnpublishVolumeRequest) -> tuple[str, Path]:
    return volume_id(request.volume_id), _path("target_path", request.target_path)


def stats(request: pb.NodeGetVolumeStatsRequest) -> tuple[str, Path]:
    return volume_id(request.volume_id), Path(required_path("volume_path", request.volume_path))


def health(request: pb.NodeGetVolumeHealthRequest) -> tuple[str, Path | None]:
    """Volume and staging path, which may be missing: so may the stage."""
    identifier = volume_id(request.volume_id)
    for field in ("volume_publish_path", "staging_target_path"):
        if given := getattr(request, field):
            required_path(field, given)
    is_file_name = identifier not in (".", "..") and "/" not in identifier
    return identifier, Path(request.staging_target_path) if request.staging_target_path and is_file_name else None


def grow(request: pb.NodeExpandVolumeRequest) -> GrowRequest:
    identifier = volume_id(request.volume_id)
    path = Path(required_path("volume_path", request.volume_path))
    capacity = check_range(request.capacity_range.required_bytes, request.capacity_range.limit_bytes)
    is_block = None
    if request.HasField("volume_capability"):
        is_block = parse_capability(request.volume_capability, "volume_capability").is_block
    return GrowRequest(identifier, path, capacity, is_block)


def _published_read_only(request: pb.NodeStageVolumeRequest | pb.NodePublishVolumeRequest) -> bool:
    """As ControllerPublishVolume has said in its publish context; other keys there are another driver's."""
    return check_map("publish_context", request.publish_context).get(READ_ONLY_KEY, "") == "true"


def _capability(request: pb.NodeStageVolumeRequest | pb.NodePublishVolumeRequest) -> Capability:
    if not request.HasField("volume_capability"):
        raise InvalidRequest("volume_capability is missing")
    return parse_capability(request.volume_capability, "volume_capability")


def _place(identifier: str, field: str, path: str) -> StagePlace:
    """Raises NotFound for an id that cannot be the name of a file: no volume has it."""
    place = StagePlace(_path(field, path), volume_id(identifier))
    if identifier in (".", "..") or "/" in identifier:
        raise NotFound(f"there is no volume {identifier!r}")
    return place


def _path(field: str, value: str) -> Path:
    path = Path(required_path(field, value))
    if not path.is_absolute() or ".." in path.parts:
        raise InvalidRequest(f"{field} {value!r} is not allowed: it must be absolute and without '..'")
    return path


def _stage_options(context: Mapping[str, str]) -> StageOptions:
    fs_type = context.get(_FS_TYPE_KEY, "")
    if fs_type and fs_type not in FILE_SYSTEMS:
        raise InvalidRequest(f"{_FS_TYPE_KEY} {fs_type!r} is not supported; allowed are {', '.join(FILE_SYSTEMS)}")
    parse_options("unmapOptions", context.get("unmapOptions", ""))
    try:
        mkfs_options = tuple(shlex.split(context.get("mkfsOptions", "")))
    except ValueError as odd:
        raise InvalidRequest(f"mkfsOptions {context['mkfsOptions']!r}: {odd}") from odd
    return StageOptions(
        mounter=parse_mounter(context.get("mounter", "")),
        try_other_mounters=context.get("tryOtherMounters", "").lower() == "true",
        map_options=parse_options("mapOptions", context.get("mapOptions", "")),
        unmap_options=context.get("unmapOptions", ""),
        mkfs_options=mkfs_options,
        fs_type=fs_type,
        kms_id=parse_encryption(context),
        luks_form=parse_luks_form(context),
    )
