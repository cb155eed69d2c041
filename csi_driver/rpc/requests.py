"""From CSI requests to values: all validation of the controller's requests, before any lock or I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from csi_driver.addresses import Credentials
from csi_driver.errors import InvalidRequest
from csi_driver.model import Capability, CapacityRange, SnapshotSpec, SourceKind, VolumeSource, VolumeSpec
from csi_driver.mutable import NOTHING_SET, MutableParameters, Value
from csi_driver.operations import encryption
from csi_driver.pb import csi_pb2 as pb
from csi_driver.rpc import foreign_handles
from csi_driver.rpc.encryption_parameters import PHRASE_KEY
from csi_driver.rpc.fields import (
    check_map,
    parse_capabilities,
    parse_capability,
    parse_credentials,
    required,
    required_name,
)
from csi_driver.rpc.mutable_parameters import parse_mutable
from csi_driver.rpc.parameters import ClassParameters, parse_class, parse_snapshot_class
from csi_driver.rpc.sizes import MIN_BYTES, SMALLEST_XFS_BYTES, check_range, choose_size
from csi_driver.rpc.topology import parse_requirement


@dataclass(frozen=True)
class Expansion:
    """A ControllerExpandVolume, parsed."""

    volume_id: str
    capacity: CapacityRange
    size_bytes: int
    credentials: Credentials | None


@dataclass(frozen=True)
class Modification:
    """A ControllerModifyVolume, parsed."""

    volume_id: str
    change: Mapping[str, Value]
    credentials: Credentials | None


def modify_volume(request: pb.ControllerModifyVolumeRequest) -> Modification:
    identifier = foreign_handles.volume_id(request.volume_id)
    if not request.mutable_parameters:
        raise InvalidRequest("mutable_parameters is missing; at least one key is required")
    return Modification(identifier, parse_mutable(request.mutable_parameters), parse_credentials(request.secrets))


def create_volume(request: pb.CreateVolumeRequest, topology_of: str = "") -> VolumeSpec:
    """topology_of: the driver's name, where topology is offered; elsewhere nothing is asked of it (CSI: CreateVolume)."""
    name = required_name("name", request.name)
    capabilities = parse_capabilities(request.volume_capabilities)
    capacity = check_range(request.capacity_range.required_bytes, request.capacity_range.limit_bytes)
    parameters = parse_class(check_map("parameters", request.parameters), topology_of)
    mutable = _first_mutable(request, parameters)
    source = _content_source(request)
    prepared = {encryption.METADATA_KEY: encryption.PREPARED} if parameters.kms_id else {}  # a copy has its source's
    # A copy without a wish has its source's size.
    is_sized = bool(capacity.required_bytes or source is None)
    return VolumeSpec(
        name=name,
        cluster_id=parameters.cluster_id,
        pool=parameters.pool,
        capacity=capacity,
        size_bytes=_size_of_new(capacity, capabilities, parameters) if is_sized else 0,
        capabilities=capabilities,
        layout=parameters.layout,
        image_prefix=parameters.image_prefix,
        owner=parameters.metadata.get("csi.storage.k8s.io/pvc/namespace", ""),
        metadata={**parameters.metadata, **prepared} if source is None else parameters.metadata,
        kms_id=parameters.kms_id,
        passphrase=request.secrets.get(PHRASE_KEY, "") if parameters.kms_id else "",
        context=parameters.context,
        source=source,
        flatten=parameters.flatten,
        clone_format=parameters.clone_format,
        retention_s=parameters.retention_s,
        constrained_pools=parameters.constrained_pools,
        reachable_from=parse_requirement(request.accessibility_requirements) if topology_of else (),
        mutable=mutable,
    )


def _size_of_new(capacity: CapacityRange, capabilities: tuple[Capability, ...], parameters: ClassParameters) -> int:
    is_xfs = any(one.fs_type == "xfs" for one in capabilities)
    smallest_bytes = SMALLEST_XFS_BYTES if is_xfs else MIN_BYTES
    return choose_size(capacity, object_size_bytes=parameters.layout.object_size_bytes, smallest_bytes=smallest_bytes)


def _first_mutable(request: pb.CreateVolumeRequest, parameters: ClassParameters) -> MutableParameters:
    mutable = NOTHING_SET.changed(parse_mutable(request.mutable_parameters))
    mutable.check_limits()
    parameters.flatten.changed(mutable)
    return mutable


def _content_source(request: pb.CreateVolumeRequest) -> VolumeSource | None:
    if not request.HasField("volume_content_source"):
        return None
    source = request.volume_content_source
    kind = source.WhichOneof("type")
    if kind == "snapshot":
        handle = required("volume_content_source.snapshot.snapshot_id", source.snapshot.snapshot_id)
        return VolumeSource(SourceKind.SNAPSHOT, handle)
    if kind == "volume":
        return VolumeSource(
            SourceKind.VOLUME, required("volume_content_source.volume.volume_id", source.volume.volume_id)
        )
    raise InvalidRequest("volume_content_source.type is missing; allowed are snapshot and volume")


def create_snapshot(request: pb.CreateSnapshotRequest, topology_of: str = "") -> SnapshotSpec:
    """topology_of: as with `create_volume`."""
    name = required_name("name", request.name)
    source = required("source_volume_id", request.source_volume_id)
    spec = parse_snapshot_class(name, source, check_map("parameters", request.parameters))
    asked = parse_requirement(request.accessibility_requirements) if topology_of else ()
    return replace(spec, reachable_from=asked)


def snapshot_id(request: pb.DeleteSnapshotRequest) -> str:
    return required("snapshot_id", request.snapshot_id)


def volume_id(
    request: pb.DeleteVolumeRequest | pb.ValidateVolumeCapabilitiesRequest | pb.ControllerGetVolumeHealthRequest,
) -> str:
    return foreign_handles.volume_id(request.volume_id)


def expand_volume(request: pb.ControllerExpandVolumeRequest) -> Expansion:
    identifier = foreign_handles.volume_id(request.volume_id)
    if not request.HasField("capacity_range") or not (
        request.capacity_range.required_bytes or request.capacity_range.limit_bytes
    ):
        raise InvalidRequest("capacity_range is missing; required_bytes or limit_bytes is needed")
    capacity = check_range(request.capacity_range.required_bytes, request.capacity_range.limit_bytes)
    if request.HasField("volume_capability"):
        parse_capability(request.volume_capability, "volume_capability")
    size_bytes = choose_size(capacity) if capacity.required_bytes else 0
    return Expansion(identifier, capacity, size_bytes, parse_credentials(request.secrets))


def capabilities_to_confirm(request: pb.ValidateVolumeCapabilitiesRequest) -> tuple[tuple[Capability, ...], str]:
    """The capabilities, and why they are not supported (empty: they are). Raises InvalidRequest when there are none."""
    for field in ("volume_context", "parameters"):
        check_map(field, getattr(request, field))
    if not request.volume_capabilities:
        raise InvalidRequest("volume_capabilities is missing; at least one is required")
    check_map("mutable_parameters", request.mutable_parameters)
    try:
        parse_mutable(request.mutable_parameters)
        return parse_capabilities(request.volume_capabilities), ""
    except InvalidRequest as unsupported:
        return (), str(unsupported)
