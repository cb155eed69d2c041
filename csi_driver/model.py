"""Frozen values that cross layers. No I/O, no gRPC, no Ceph: what they hold is valid once made (rpc/requests.py parses)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from csi_driver.addresses import ImageAddress
from csi_driver.errors import InvalidRequest
from csi_driver.mutable import (
    FLATTEN,
    HARD_DEPTH,
    NO_LIMITS,
    NOTHING_SET,
    SOFT_DEPTH,
    DeviceLimits,
    MutableParameters,
)


class AccessMode(StrEnum):
    """CSI access modes; the values are the names in csi.proto (VolumeCapability.AccessMode.Mode)."""

    SINGLE_NODE_WRITER = "SINGLE_NODE_WRITER"
    SINGLE_NODE_READER_ONLY = "SINGLE_NODE_READER_ONLY"
    MULTI_NODE_READER_ONLY = "MULTI_NODE_READER_ONLY"
    MULTI_NODE_SINGLE_WRITER = "MULTI_NODE_SINGLE_WRITER"
    MULTI_NODE_MULTI_WRITER = "MULTI_NODE_MULTI_WRITER"
    SINGLE_NODE_SINGLE_WRITER = "SINGLE_NODE_SINGLE_WRITER"
    SINGLE_NODE_MULTI_WRITER = "SINGLE_NODE_MULTI_WRITER"

    @property
    def is_read_only(self) -> bool:
        return self in (AccessMode.SINGLE_NODE_READER_ONLY, AccessMode.MULTI_NODE_READER_ONLY)

    @property
    def is_multi_node(self) -> bool:
        return self.name.startswith("MULTI_NODE")

    @property
    def allows_second_target(self) -> bool:
        """Whether a second target path on one node is allowed (CSI: NodePublishVolume, table of arguments)."""
        return self.is_multi_node or self is AccessMode.SINGLE_NODE_MULTI_WRITER


@dataclass(frozen=True)
class Capability:
    """One volume capability: access mode, and block device or file system with its mount flags."""

    mode: AccessMode
    is_block: bool
    fs_type: str = ""
    mount_flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        kind = "block" if self.is_block else f"mount({self.fs_type or 'default'})"
        return f"{kind}/{self.mode}"


@dataclass(frozen=True)
class CapacityRange:
    """A size in bytes that is wanted (0: no wish) and one that must not be passed (0: no limit)."""

    required_bytes: int = 0
    limit_bytes: int = 0

    def holds(self, size_bytes: int) -> bool:
        return size_bytes >= self.required_bytes and (not self.limit_bytes or size_bytes <= self.limit_bytes)


@dataclass(frozen=True)
class ImageLayout:
    """How an image stores its data (rbd create: --image-feature, --object-size, --stripe-unit, --data-pool)."""

    features: tuple[str, ...]
    object_size_bytes: int = 4 << 20
    stripe_unit_bytes: int = 0
    stripe_count: int = 0
    data_pool: str = ""


KUBERNETES_METADATA = tuple(f"csi.storage.k8s.io/{key}" for key in ("pvc/name", "pvc/namespace", "pv/name"))
"""Names among an image's metadata that tell whose volume it is."""


class SourceKind(StrEnum):
    SNAPSHOT = "snapshot"
    VOLUME = "volume"


@dataclass(frozen=True)
class VolumeSource:
    """What a new volume is a copy of, by its handle."""

    kind: SourceKind
    handle: str


class FlattenMode(StrEnum):
    """When a copy is made independent of its ancestors."""

    LAZY = "lazy"  # behind the answer above the soft depth, before it at the hard depth
    ALWAYS = "always"  # behind the answer, every copy; before it at the hard depth
    NEVER = "never"  # a copy that would reach the hard depth is refused


@dataclass(frozen=True)
class FlattenPolicy:
    """How long chains of copies may be: no volume is handed out that has `hard_depth` ancestors or more."""

    mode: FlattenMode = FlattenMode.LAZY
    soft_depth: int = 4
    hard_depth: int = 8

    def changed(self, mutable: MutableParameters) -> "FlattenPolicy":
        """With what was set for one volume. Raises InvalidRequest when its depths contradict each other."""
        hard = int(mutable.values.get(HARD_DEPTH, self.hard_depth))
        soft = int(mutable.values.get(SOFT_DEPTH, min(self.soft_depth, hard)))
        if soft > hard:
            raise InvalidRequest(f"{SOFT_DEPTH} would be {soft}; allowed is at most {HARD_DEPTH}, which is {hard}")
        return FlattenPolicy(FlattenMode(str(mutable.values.get(FLATTEN, self.mode))), soft, hard)


Segments = Mapping[str, str]
"""Where a node is, or from where something can be reached: domains by key (CSI: Topology)."""


@dataclass(frozen=True)
class ConstrainedPool:
    """A pool for volumes of one part of the topology. data_pool: empty for none."""

    name: str
    data_pool: str
    segments: Segments


class CloneFormat(StrEnum):
    """RBD's ways to keep a clone: format 1 needs a protected snap, which cannot be removed before its clones are gone."""

    ALLOWED = ""  # 2 where the cluster allows it, else 1
    ONE = "1"
    TWO = "2"


@dataclass(frozen=True)
class VolumeSpec:
    """What a CreateVolume asks for.

    size_bytes: 0 where a copy may have its source's size · retention_s: how long it can be brought back after its delete ·
    constrained_pools: one of them is for the image, and `pool` for its name alone; none: `pool` is for both ·
    reachable_from: the topologies asked for, the preferred first; none: no wish · topology: of the pool that was chosen
    · flatten, retention_s: as the class has them; `mutable` wins over both · kms_id: who keeps its key; empty: it is not
    encrypted · passphrase: of the call's secrets, no part of what is agreed on
    """

    name: str
    cluster_id: str
    pool: str
    capacity: CapacityRange
    size_bytes: int
    capabilities: tuple[Capability, ...]
    layout: ImageLayout
    image_prefix: str = "csi-vol-"
    owner: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, str] = field(default_factory=dict)
    source: VolumeSource | None = None
    flatten: FlattenPolicy = FlattenPolicy()
    clone_format: CloneFormat = CloneFormat.ALLOWED
    retention_s: int = 0
    constrained_pools: tuple[ConstrainedPool, ...] = ()
    reachable_from: tuple[Segments, ...] = ()
    topology: Segments = field(default_factory=dict)
    mutable: MutableParameters = NOTHING_SET
    kms_id: str = ""
    passphrase: str = field(default="", repr=False)

    @property
    def is_encrypted(self) -> bool:
        return bool(self.kms_id)


@dataclass(frozen=True)
class Volume:
    """A volume as the answers of the controller show it. topology: empty where every node can reach it."""

    handle: str
    size_bytes: int
    context: Mapping[str, str] = field(default_factory=dict)
    source: VolumeSource | None = None
    topology: Segments = field(default_factory=dict)


@dataclass(frozen=True)
class ListedVolume:
    """A volume as listings show it, with the nodes that it is published to."""

    volume: Volume
    published_nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SnapshotSpec:
    """What a CreateSnapshot asks for. cluster_id: as the class names it, or empty · reachable_from: as in `VolumeSpec`"""

    name: str
    source_handle: str
    snap_prefix: str = "csi-snap-"
    cluster_id: str = ""
    reachable_from: tuple[Segments, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """A snapshot as the answers of the controller show it. created_at is in seconds since the epoch.

    topology: of its source; empty where volumes made of it can be reached from everywhere.
    """

    handle: str
    source_handle: str
    size_bytes: int
    created_at: float
    topology: Segments = field(default_factory=dict)
    group_handle: str = ""


@dataclass(frozen=True)
class GroupSnapshotSpec:
    """What a CreateVolumeGroupSnapshot asks for. cluster_id, pool: as the class names them, or empty."""

    name: str
    source_handles: tuple[str, ...]
    group_prefix: str = "csi-vol-group-"
    cluster_id: str = ""
    pool: str = ""


@dataclass(frozen=True)
class GroupSnapshot:
    """A group snapshot as the answers show it. created_at is in seconds since the epoch."""

    handle: str
    created_at: float
    snapshots: tuple[Snapshot, ...]


@dataclass(frozen=True)
class ImageTraits:
    """What of an image decides who can attach it: its features by librbd's names, and the limits that are to be held."""

    features: tuple[str, ...] = ()
    limits: DeviceLimits = NO_LIMITS


@dataclass(frozen=True)
class StagedVolume:
    """What the node half needs to know of a volume that exists: its handle and the way to its image.

    is_open: some client had it open when it was located.
    """

    handle: str
    address: ImageAddress
    size_bytes: int
    traits: ImageTraits = ImageTraits()
    is_open: bool = False


class HealthStatus(StrEnum):
    """What a trouble means for a volume; the values are the names in csi.proto (VolumeHealthErrorType)."""

    DEGRADED = "DEGRADED"
    INACCESSIBLE = "INACCESSIBLE"
    DATA_LOSS = "DATA_LOSS"


@dataclass(frozen=True)
class VolumeTrouble:
    """One thing that is wrong with a volume. reason: one CamelCase word for programs; message: for people."""

    status: HealthStatus
    reason: str
    message: str
