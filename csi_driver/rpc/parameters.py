"""Parameters of a StorageClass: every key that is known, and its parser. docs/parameters.md is tested against this table.

Names are those of the widely deployed Ceph CSI driver. An unknown key of a class is refused by name; the keys of a volume
context are not read here: it may be years old.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from csi_driver.errors import InvalidRequest
from csi_driver.model import (
    KUBERNETES_METADATA,
    CloneFormat,
    ConstrainedPool,
    FlattenMode,
    FlattenPolicy,
    GroupSnapshotSpec,
    ImageLayout,
    SnapshotSpec,
)
from csi_driver.rpc.encryption_parameters import ENCRYPTION_KEYS, parse_encryption
from csi_driver.rpc.fields import check_text
from csi_driver.rpc.topology import parse_constrained_pools

DEFAULT_FEATURES = ("layering", "deep-flatten", "exclusive-lock", "object-map", "fast-diff")
FEATURES = (*DEFAULT_FEATURES, "journaling")
_NEEDS = {"object-map": "exclusive-lock", "fast-diff": "object-map", "journaling": "exclusive-lock"}
_MIN_OBJECT, _MAX_OBJECT = 4096, 32 << 20
_MAX_STRIPES = 4096
"""librbd keeps 32 bits of it and divides by them: with 2**32 the removal of the image ends the process (SIGFPE)."""

_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MOUNTERS = ("rbd", "krbd", "rbd-nbd", "nbd", "fuse")

KUBERNETES_PREFIX = "csi.storage.k8s.io/"

IMAGE_KEYS = (
    "clusterID",
    "pool",
    "dataPool",
    "imageFeatures",
    "objectSize",
    "stripeUnit",
    "stripeCount",
    "volumeNamePrefix",
)
COPY_KEYS = ("flatten", "softCloneDepth", "hardCloneDepth", "cloneFormat")
MOST_DEPTH = 16
"""The kernel client maps no image with more ancestors."""
TRASH_KEYS = ("trashRetention",)
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MOST_DAYS = 365
TOPOLOGY_KEYS = ("topologyConstrainedPools",)
NODE_KEYS = ("mounter", "mapOptions", "unmapOptions", "mkfsOptions", "tryOtherMounters", *ENCRYPTION_KEYS)
CLASS_KEYS = (*IMAGE_KEYS, *TOPOLOGY_KEYS, *COPY_KEYS, *TRASH_KEYS, *NODE_KEYS)
NOT_YET = ("thickProvision",)
"""Known from other drivers and refused, since a volume without them would not be what was asked for."""


@dataclass(frozen=True)
class ClassParameters:
    """A StorageClass, parsed."""

    cluster_id: str
    pool: str
    layout: ImageLayout
    image_prefix: str
    flatten: FlattenPolicy
    clone_format: CloneFormat
    retention_s: int
    constrained_pools: tuple[ConstrainedPool, ...]
    context: Mapping[str, str]
    metadata: Mapping[str, str]
    kms_id: str = ""
    """Empty where volumes are not encrypted."""


def parse_class(given: Mapping[str, str], topology_of: str = "") -> ClassParameters:
    """topology_of: the driver's name, where topology is offered.

    Raises InvalidRequest that names the key, the value and what is allowed.
    """
    for key in given:
        _check_known(key)
    features = _features(given.get("imageFeatures", ""))
    return ClassParameters(
        cluster_id=_required(given, "clusterID"),
        pool=_required(given, "pool"),
        layout=_layout(given, features),
        image_prefix=_prefix("volumeNamePrefix", given.get("volumeNamePrefix", "csi-vol-")),
        flatten=_flatten(given),
        clone_format=_clone_format(given),
        retention_s=parse_duration("parameter trashRetention", given.get("trashRetention") or "0"),
        constrained_pools=parse_constrained_pools(given.get("topologyConstrainedPools", ""), topology_of),
        context=_context(given),
        metadata={key: given[key] for key in KUBERNETES_METADATA if given.get(key)},
        kms_id=parse_encryption(given),
    )


SNAPSHOT_KEYS = ("clusterID", "pool", "snapshotNamePrefix")
"""Of a VolumeSnapshotClass. `pool` is accepted for compatibility: a snapshot lies where its source does."""


def parse_snapshot_class(name: str, source_handle: str, given: Mapping[str, str]) -> SnapshotSpec:
    """Raises InvalidRequest that names the key, the value and what is allowed."""
    for key in given:
        if key not in SNAPSHOT_KEYS and not key.startswith(KUBERNETES_PREFIX):
            raise InvalidRequest(
                f"parameter {key!r} is not known; allowed are {', '.join(SNAPSHOT_KEYS)} and {KUBERNETES_PREFIX}*"
            )
    prefix = _prefix("snapshotNamePrefix", given.get("snapshotNamePrefix") or "csi-snap-")
    return SnapshotSpec(name, source_handle, prefix, given.get("clusterID", ""))


GROUP_KEYS = ("clusterID", "pool", "volumeGroupNamePrefix", "snapshotNamePrefix", "deletionPolicy")
"""Of a VolumeGroupSnapshotClass. `snapshotNamePrefix` is accepted for compatibility: RBD names a group's snaps itself; and
`deletionPolicy`, a field of the class, since Kubernetes' own tests repeat it among the parameters.
"""


def parse_group_class(name: str, source_handles: tuple[str, ...], given: Mapping[str, str]) -> GroupSnapshotSpec:
    """Raises InvalidRequest that names the key, the value and what is allowed."""
    for key in given:
        if key not in GROUP_KEYS and not key.startswith(KUBERNETES_PREFIX):
            raise InvalidRequest(
                f"parameter {key!r} is not known; allowed are {', '.join(GROUP_KEYS)} and {KUBERNETES_PREFIX}*"
            )
    prefix = _prefix("volumeGroupNamePrefix", given.get("volumeGroupNamePrefix") or "csi-vol-group-")
    _prefix("snapshotNamePrefix", given.get("snapshotNamePrefix") or "csi-snap-")
    pool = check_text("parameter pool", given.get("pool", ""))
    return GroupSnapshotSpec(name, source_handles, prefix, given.get("clusterID", ""), pool)


def _check_known(key: str) -> None:
    if key in CLASS_KEYS or key.startswith(KUBERNETES_PREFIX):
        return
    if key in NOT_YET:
        raise InvalidRequest(f"parameter {key!r} is not supported by this release")
    known = ", ".join(CLASS_KEYS)
    raise InvalidRequest(f"parameter {key!r} is not known; allowed are {known} and {KUBERNETES_PREFIX}*")


def _required(given: Mapping[str, str], key: str) -> str:
    if not given.get(key):
        raise InvalidRequest(f"parameter {key} is missing")
    return check_text(f"parameter {key}", given[key])


def _features(text: str) -> tuple[str, ...]:
    if not text:
        return DEFAULT_FEATURES
    features = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for feature in features:
        if feature not in FEATURES:
            raise InvalidRequest(
                f"parameter imageFeatures: {feature!r} is not known; allowed are {', '.join(FEATURES)}"
            )
        if (needs := _NEEDS.get(feature, feature)) not in features:
            raise InvalidRequest(f"parameter imageFeatures: {feature} needs {needs}")
    return features


def _layout(given: Mapping[str, str], features: tuple[str, ...]) -> ImageLayout:
    object_size = _number(given, "objectSize") or 4 << 20
    if object_size & (object_size - 1) or not _MIN_OBJECT <= object_size <= _MAX_OBJECT:
        raise InvalidRequest(
            f"parameter objectSize is {object_size}; allowed are powers of two from {_MIN_OBJECT} to {_MAX_OBJECT} bytes"
        )
    unit, count = _number(given, "stripeUnit"), _number(given, "stripeCount")
    if bool(unit) != bool(count):
        raise InvalidRequest("parameters stripeUnit and stripeCount go together; one of them is missing or 0")
    if count > _MAX_STRIPES:
        raise InvalidRequest(f"parameter stripeCount is {count}; allowed are 1 to {_MAX_STRIPES}")
    if unit and (unit > object_size or object_size % unit):
        raise InvalidRequest(f"parameter stripeUnit is {unit}; it must divide the object size of {object_size} bytes")
    return ImageLayout(features, object_size, unit, count, check_text("parameter dataPool", given.get("dataPool", "")))


def _flatten(given: Mapping[str, str]) -> FlattenPolicy:
    default = FlattenPolicy()
    mode = given.get("flatten") or default.mode
    if mode not in list(FlattenMode):
        raise InvalidRequest(f"parameter flatten is {mode!r}; allowed are {', '.join(FlattenMode)}")
    hard = _depth(given, "hardCloneDepth", default.hard_depth)
    # A class that names the hard depth alone means no more than that by it.
    soft = _depth(given, "softCloneDepth", min(default.soft_depth, hard))
    if soft > hard:
        raise InvalidRequest(f"parameter softCloneDepth is {soft}; allowed is at most hardCloneDepth, which is {hard}")
    return FlattenPolicy(FlattenMode(mode), soft, hard)


def _clone_format(given: Mapping[str, str]) -> CloneFormat:
    text = given.get("cloneFormat", "")
    if text not in list(CloneFormat):
        raise InvalidRequest(f"parameter cloneFormat is {text!r}; allowed are 1 and 2, or to leave it out")
    return CloneFormat(text)


def _depth(given: Mapping[str, str], key: str, default: int) -> int:
    if not given.get(key):
        return default
    depth = _number(given, key)
    if not 1 <= depth <= MOST_DEPTH:
        raise InvalidRequest(f"parameter {key} is {given[key]!r}; allowed are whole numbers from 1 to {MOST_DEPTH}")
    return depth


def parse_duration(field: str, text: str) -> int:
    """Seconds; 0 for none."""
    if text == "0":
        return 0
    form = _DURATION.fullmatch(text)
    seconds = int(form[1]) * _UNIT_S[form[2]] if form else -1
    if not 0 <= seconds <= _MOST_DAYS * _UNIT_S["d"]:
        raise InvalidRequest(
            f"{field} is {text!r}; allowed are 0 and a whole number with s, m, h or d, "
            f"as 90s, 30m, 24h or 7d, up to {_MOST_DAYS}d"
        )
    return seconds


def _number(given: Mapping[str, str], key: str) -> int:
    text = given.get(key, "")
    if not text:
        return 0
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise InvalidRequest(f"parameter {key} is {text!r}; allowed is a whole number")
    return int(text)


def _prefix(key: str, text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise InvalidRequest(f"parameter {key} is {text!r}; allowed are letters, digits, '.', '_' and '-', at most 64")
    return text


def _context(given: Mapping[str, str]) -> dict[str, str]:
    """What the node needs, with the keys that the Go driver writes, so that either can stage the volume."""
    mounter = given.get("mounter", "")
    if mounter and mounter not in MOUNTERS:
        raise InvalidRequest(f"parameter mounter is {mounter!r}; allowed are {', '.join(MOUNTERS)}")
    other = given.get("tryOtherMounters", "")
    if other and other not in ("true", "false"):
        raise InvalidRequest(f"parameter tryOtherMounters is {other!r}; allowed are true and false")
    kept = ("clusterID", "dataPool", "imageFeatures", *NODE_KEYS)
    return {key: given[key] for key in kept if given.get(key)}
