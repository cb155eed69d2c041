"""The bad requests: what is changed in a valid one, the code that is owed for it, and what the message must name.

Codes are those of the CSI specification's error tables; two stand where it leaves the choice. Rows for missing,
oversized and malformed fields come from the descriptors, so a field that a newer release adds is covered.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor

from csi_driver.pb import csi_pb2 as pb
from tests.rpc.valid_requests import REQUIRED, RPCS, UNUSED, block, mounted

INVALID = grpc.StatusCode.INVALID_ARGUMENT
MISSING = grpc.StatusCode.NOT_FOUND
RANGE = grpc.StatusCode.OUT_OF_RANGE
STATE = grpc.StatusCode.FAILED_PRECONDITION
FOREIGN = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED
AGAIN = grpc.StatusCode.ABORTED
TAKEN = grpc.StatusCode.ALREADY_EXISTS

Spoil = Callable[[Any], None]
Mode = pb.VolumeCapability.AccessMode


@dataclass(frozen=True)
class Row:
    """One bad request."""

    rpc: str
    what: str
    spoil: Spoil
    names: str
    codes: tuple[grpc.StatusCode, ...] = (INVALID,)

    def __str__(self) -> str:
        return f"{self.rpc}-{self.what}".replace(" ", "-")


def put(path: str, value: object) -> Spoil:
    """Sets a field; dots lead into messages."""
    *parents, name = path.split(".")

    def spoil(request: Any) -> None:
        for parent in parents:
            request = getattr(request, parent)
        setattr(request, name, value)

    return spoil


def append(field: str, *values: str) -> Spoil:
    return lambda request: getattr(request, field).extend(values)


def put_key(field: str, key: str, value: str) -> Spoil:
    return lambda request: getattr(request, field).update({key: value})


def drop_key(field: str, key: str) -> Spoil:
    return lambda request: getattr(request, field).pop(key)


def drop(field: str) -> Spoil:
    return lambda request: request.ClearField(field)


def capabilities(*wanted: pb.VolumeCapability) -> Spoil:
    """Replaces the capability, or all of them where the RPC takes a list."""

    def spoil(request: Any) -> None:
        if hasattr(request, "volume_capability"):
            request.volume_capability.CopyFrom(wanted[0])
        else:
            del request.volume_capabilities[:]
            request.volume_capabilities.extend(wanted)

    return spoil


# --- rows of every field ------------------------------------------------------------------------------------------


def rows_of_fields() -> Iterator[Row]:
    """Required fields missing; strings and maps too large; control characters in strings."""
    for rpc in RPCS:
        for name in REQUIRED[rpc]:
            yield Row(rpc, f"no {name}", drop(name), name)
        for field in pb.DESCRIPTOR.message_types_by_name[f"{rpc}Request"].fields:
            if (rpc, field.name) not in UNUSED:
                yield from _rows_of_field(rpc, field)


def _rows_of_field(rpc: str, field: FieldDescriptor) -> Iterator[Row]:
    name = field.name
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        big = put_key(name, "clusterID" if name == "parameters" else "big", "x" * 5000)
        yield Row(rpc, f"{name} too large", big, name)
    elif field.type == FieldDescriptor.TYPE_STRING and field.is_repeated:
        for text in ("x" * 129, "a\0b"):
            yield Row(rpc, f"{name} with {text[:3]!r}", append(name, text), name)
    elif field.type == FieldDescriptor.TYPE_STRING:
        size = 5000 if name.endswith("_path") else 257 if name == "node_id" else 129
        yield Row(rpc, f"{name} too long", put(name, "/" + "x" * (size - 1)), name)
        if name.endswith("_path"):  # 256 bytes
            yield Row(rpc, f"a file's name in {name} too long", put(name, f"/a/{'ä' * 128}/b"), name)
            yield Row(rpc, f"{name} as long as a path may not be", put(name, "/xy" * 1281), name)
        for character in ("\0", "\x07", "\x1b", "\x7f", "\x85"):
            yield Row(rpc, f"{name} with {ord(character):#04x}", put(name, f"/a{character}b"), name)


# --- rows of capabilities, for every RPC that takes one -----------------------------------------------------------

WITH_CAPABILITY = (
    "CreateVolume",
    "ControllerExpandVolume",
    "GetCapacity",
    "ControllerPublishVolume",
    "NodeStageVolume",
    "NodePublishVolume",
    "NodeExpandVolume",
)


def rows_of_capabilities() -> Iterator[Row]:
    """Capabilities that are incomplete or that nobody can have."""
    no_mode, no_type, grouped = pb.VolumeCapability(), pb.VolumeCapability(), mounted()
    no_mode.block.SetInParent()
    no_type.access_mode.mode = Mode.SINGLE_NODE_WRITER
    grouped.mount.volume_mount_group = "1000"
    for rpc in WITH_CAPABILITY:
        unsupported = (INVALID, STATE) if rpc.startswith("Node") else (INVALID,)
        yield Row(rpc, "no access type", capabilities(no_type), "access_type")
        yield Row(rpc, "no access mode", capabilities(no_mode), "access_mode")
        yield Row(rpc, "mode UNKNOWN", capabilities(mounted(mode=0)), "access_mode")
        yield Row(rpc, "mode of the future", capabilities(block(mode=99)), "access_mode")
        for mode in (Mode.MULTI_NODE_MULTI_WRITER, Mode.MULTI_NODE_SINGLE_WRITER):
            yield Row(
                rpc, f"file system with mode {mode}", capabilities(mounted(mode=mode)), "access_mode", unsupported
            )
        for fs_type in ("ntfs", "EXT4", "../ext4", "ext4 -F"):
            yield Row(rpc, f"fs {fs_type}", capabilities(mounted(fs_type)), "fs_type", unsupported)
        yield Row(rpc, "mount group", capabilities(grouped), "volume_mount_group", unsupported)
    yield Row("CreateVolume", "block and mount", capabilities(block(), mounted()), "volume_capabilities")
    yield Row("CreateVolume", "second one bad", capabilities(mounted(), no_mode), "volume_capabilities[1]")


# --- rows of sizes ------------------------------------------------------------------------------------------------


def rows_of_sizes() -> Iterator[Row]:
    """Ranges that contradict themselves, or that no image fits."""
    required, limit = "capacity_range.required_bytes", "capacity_range.limit_bytes"
    for rpc in ("CreateVolume", "ControllerExpandVolume", "NodeExpandVolume"):
        for field in (required, limit):
            yield Row(rpc, f"negative {field}", put(field, -1), field.partition(".")[2], (INVALID, RANGE))
        yield Row(rpc, "limit below required", put_range(2 << 30, 1 << 30), "limit_bytes", (INVALID, RANGE))
    for rpc in ("CreateVolume", "ControllerExpandVolume"):
        yield Row(rpc, "size of 8 EiB", put_range((1 << 63) - 1, 0), "required_bytes", (RANGE,))
        yield Row(rpc, "no size fits", put_range((1 << 30) + 1, (1 << 30) + 2), "capacity_range", (RANGE,))
    yield Row("CreateVolume", "limit of one byte", put_range(0, 1), "limit_bytes", (RANGE,))
    yield Row("ControllerExpandVolume", "no wish", put_range(0, 0), "capacity_range")
    yield Row("ControllerExpandVolume", "limit below size", put_range(0, 1 << 20), "limit_bytes", (RANGE,))


def put_range(required: int, limit: int) -> Spoil:
    wanted = pb.CapacityRange(required_bytes=required, limit_bytes=limit)
    return lambda request: request.capacity_range.CopyFrom(wanted)


# --- rows of secrets ----------------------------------------------------------------------------------------------

WITH_SECRETS = (
    "CreateVolume",
    "DeleteVolume",
    "ControllerExpandVolume",
    "ControllerModifyVolume",
    "ValidateVolumeCapabilities",
    "CreateSnapshot",
    "DeleteSnapshot",
    "CreateVolumeGroupSnapshot",
    "DeleteVolumeGroupSnapshot",
    "GetVolumeGroupSnapshot",
    "GetMetadataAllocated",
    "GetMetadataDelta",
    "ListSnapshots",
    "GetSnapshot",
    "ControllerPublishVolume",
    "ControllerUnpublishVolume",
    "NodeStageVolume",
)
OTHER_KEY = "AQBDsuVnAAAAABAAFr8L0C6wQxJ8w3Qe1vT9Ig=="  # well formed; no user of any cluster has it


def rows_of_secrets() -> Iterator[Row]:
    """Secrets that are incomplete, malformed, or another user's."""
    for rpc in WITH_SECRETS:
        for key in ("userID", "userKey"):
            yield Row(rpc, f"no {key}", drop_key("secrets", key), key)
            yield Row(rpc, f"empty {key}", put_key("secrets", key, ""), key)
        yield Row(rpc, "another key", put_key("secrets", "userKey", OTHER_KEY), "userKey|credentials", (FOREIGN,))
        yield Row(rpc, "unknown user", put_key("secrets", "userID", "nobody"), "nobody", (FOREIGN,))
        for name, key in (("garbage", "not base64!"), ("short", "AQ=="), ("plain", "c2VjcmV0")):
            malformed = put_key("secrets", "userKey", key)
            yield Row(rpc, f"{name} key", malformed, "userKey|credentials", (FOREIGN, INVALID))
        yield Row(rpc, "user with a line end", put_key("secrets", "userID", "a\nb"), "userID")


# --- rows of parameters -------------------------------------------------------------------------------------------

BAD_VALUES = {
    "clusterID": ("", "nowhere", "DEV", "dev ", "dev\0"),
    "pool": ("", "no-such-pool", "rbd/ns", "rbd@snap", "../rbd", "rbd\n"),
    "dataPool": ("no-such-pool", "rbd/ns"),
    "imageFeatures": ("warp", "layering;fast-diff", "object-map", "layering,fast-diff", ","),
    "objectSize": ("0x1000", "-4096", "4M", "3000000", "2048", "67108864", "9" * 30),
    "stripeUnit": ("4096", "abc"),
    "stripeCount": ("2", "-1"),
    "volumeNamePrefix": ("", "a/b", "a@b", "-rf", "x" * 65, "a b"),
    "mounter": ("floppy", "RBD"),
    "tryOtherMounters": ("maybe", "1"),
    "encryptionCipher": ("rot13", "aes-xts-plain"),
    "encryptionSectorSize": ("0", "513", "8192"),
}
BAD_MUTABLE = (
    *((key, "9") for key in ("iops", "BaseIops", "clusterID", "XXX_FakeKey", "", "mounter")),
    *(("baseIops", value) for value in ("", "-1", "1.5", "1k", "many", "1000000000001", "9" * 30, " 9")),
    *(("burstIops", "9"), ("baseVolSizeBytes", "1073741824")),
    *(("flatten", "sometimes"), ("flatten", ""), ("softCloneDepth", "0"), ("softCloneDepth", "9")),
    *(("hardCloneDepth", "17"), ("trashRetention", "1w"), ("trashRetention", "366d"), ("trashRetention", "")),
)
UNKNOWN_KEYS = ("Pool", "POOL", "clusterid", "userKey", "fsType", "pool ", "csi.storage.k8s.io", "encrypted", "")


def rows_of_parameters() -> Iterator[Row]:
    """StorageClass parameters and mutable ones that are not known, missing or malformed."""
    for key in ("clusterID", "pool"):
        yield Row("CreateVolume", f"no {key}", drop_key("parameters", key), key)
    for key, values in BAD_VALUES.items():
        for value in values:
            yield Row("CreateVolume", f"{key} {value[:12]!r}", put_key("parameters", key, value), key)
    for key in UNKNOWN_KEYS:
        yield Row("CreateVolume", f"unknown key {key!r}", put_key("parameters", key, "x"), key or "parameter")
    for rpc in ("CreateVolume", "ControllerModifyVolume"):
        for key, value in BAD_MUTABLE:
            yield Row(rpc, f"mutable {key} {value!r}", put_key("mutable_parameters", key, value), key or "mutable")
    for key, value in (("clusterID", "nowhere"), ("snapshotNamePrefix", "a/b"), ("flatten", "x"), ("", "x")):
        yield Row("CreateSnapshot", f"{key} {value!r}", put_key("parameters", key, value), key or "parameter")
    for key, value in (("clusterID", "nowhere"), ("volumeGroupNamePrefix", "a/b"), ("flatten", "x"), ("pool", "none")):
        yield Row("CreateVolumeGroupSnapshot", f"{key} {value!r}", put_key("parameters", key, value), key)
    yield Row("CreateVolumeGroupSnapshot", "volume absent", append("source_volume_ids", "fake"), "fake", (MISSING,))
    yield Row("CreateVolumeGroupSnapshot", "volume twice", append("source_volume_ids", "a", "a"), "source_volume_ids")
    for rpc in ("GetMetadataAllocated", "GetMetadataDelta"):
        yield Row(rpc, "negative count", put("max_results", -1), "max_results")
        yield Row(rpc, "absent", lambda _request: None, "snapshot", (MISSING,))
    yield Row("GetVolumeGroupSnapshot", "absent", put("group_snapshot_id", "fake"), "fake", (MISSING,))
    yield Row("CreateSnapshot", "source absent", put("source_volume_id", "fake"), "volume", (MISSING,))
    snapshot = put("volume_content_source.snapshot.snapshot_id", "fake")
    yield Row("CreateVolume", "from a snapshot", snapshot, "volume_content_source|snapshot", (INVALID, MISSING))
    volume = put("volume_content_source.volume.volume_id", "fake")
    yield Row("CreateVolume", "from a volume", volume, "volume_content_source|volume", (INVALID, MISSING))
    yield Row("CreateVolume", "user without the pool", _as_namespace_user, "rbd", (DENIED,))


def _as_namespace_user(request: Any) -> None:
    """Filled in by the test, which knows the key."""
    request.secrets["userID"] = "ns"


# --- rows of names and ids that lead elsewhere --------------------------------------------------------------------

REAL_POOL = "{pool}"  # the test puts the id of the pool that the volume `real` is in
UUID = "50d53503-9da1-11ed-847e-bacf8f2f1297"
UNPARSABLE = (
    "fake-vol-id",
    f"0001-0003-dev-0000000000000001-{UUID[:-1]}",
    f"0002-0003-dev-0000000000000001-{UUID}",
    f"0001-0004-dev-0000000000000001-{UUID}",
    f"0001-ffff-dev-0000000000000001-{UUID}",
    f"0001-0000--0000000000000001-{UUID}",
    f"0001-0003-dev-0000000000000001-{UUID}/x",
    f"0001-0003-dev-zzzzzzzzzzzzzzzz-{UUID}",
    "../../etc/passwd",
    "ä" * 64,
)
ABSENT = (
    f"0001-0003-dev-{REAL_POOL}-{UUID}",
    f"0001-0003-dev-00000000deadbeef-{UUID}",
    f"0001-0003-dev-ffffffffffffffff-{UUID}",
)
FINDS = (
    "ControllerPublishVolume",
    "ControllerGetVolume",
    "ControllerExpandVolume",
    "ControllerModifyVolume",
    "ValidateVolumeCapabilities",
    "NodeStageVolume",
    "NodePublishVolume",
    "NodeExpandVolume",
    "NodeGetVolumeStats",
)


def rows_of_ids() -> Iterator[Row]:
    """Volumes that do not exist, and a name that another request has."""
    for rpc in FINDS:
        # NodePublishVolume asks this node alone: what is not staged here may exist or not
        codes = (MISSING, STATE) if rpc == "NodePublishVolume" else (MISSING,)
        for number, volume_id in enumerate(UNPARSABLE + ABSENT):
            yield Row(rpc, f"id {number}", put("volume_id", volume_id), "", codes)
    for rpc in ("NodeGetVolumeStats", "NodeExpandVolume"):
        yield Row(rpc, "another path", put("volume_path", "some/path"), "some/path", (MISSING,))
    yield Row("NodePublishVolume", "not staged", lambda _request: None, "stag", (STATE,))
    yield Row(
        "NodePublishVolume", "no staging path", drop("staging_target_path"), "staging_target_path", (STATE, INVALID)
    )
    for what, change in (
        ("other size", put_range(3 << 30, 0)),
        ("other limit", put_range(0, 1 << 29)),
        ("other access", capabilities(block())),
        ("other features", put_key("parameters", "imageFeatures", "layering")),
    ):
        yield Row("CreateVolume", f"name taken, {what}", both(put("name", "real"), change), "real", (TAKEN,))


def rows_of_foreign_handles() -> Iterator[Row]:
    """What is refused by its name, and static volumes that are not one."""
    migrated = "mig_mons-b7f67366bb43f32e07d8a261a7840da9_image-e0b45b52-7e09-47d3-8f1b-806995fa4412_706f6f6c"
    for rpc in (*FINDS, "DeleteVolume", "ControllerUnpublishVolume", "NodeUnstageVolume", "NodeUnpublishVolume"):
        yield Row(rpc, "in-tree migration", put("volume_id", migrated), "in-tree")
    yield Row(
        "NodePublishVolume",
        "inline ephemeral",
        put_key("volume_context", "csi.storage.k8s.io/ephemeral", "true"),
        "inline ephemeral",
    )
    for rpc in ("ControllerPublishVolume", "NodeStageVolume"):
        static = put_key("volume_context", "staticVolume", "true")
        as_image = both(static, put("volume_id", "no-such-image"))
        place = both(put_key("volume_context", "clusterID", "dev"), put_key("volume_context", "pool", "rbd"))
        yield Row(rpc, "static maybe", put_key("volume_context", "staticVolume", "maybe"), "staticVolume")
        yield Row(rpc, "static handle", static, "volume_id")
        with_pool = both(static, put("volume_id", "rbd/image"))
        yield Row(rpc, "static with pool", with_pool, "rbd/image", (INVALID, MISSING))
        for key in ("clusterID", "pool"):
            without = both(both(place, as_image), lambda request, key=key: request.volume_context.pop(key))  # type: ignore[misc]
            yield Row(rpc, f"static without {key}", without, key)
        yield Row(rpc, "static absent", both(place, as_image), "no-such-image", (MISSING,))
        elsewhere = both(both(place, as_image), put_key("volume_context", "clusterID", "nowhere"))
        yield Row(rpc, "static elsewhere", elsewhere, "nowhere", (MISSING,))


def rows_of_publications() -> Iterator[Row]:
    """Nodes that nobody knows."""
    for node_id in ("none", "Node-1", "node-1 ", "ä", "x" * 256):
        yield Row("ControllerPublishVolume", f"node {node_id[:9]}", put("node_id", node_id), "node", (MISSING,))


def rows_of_listings() -> Iterator[Row]:
    """Pages that nobody can have, tokens that nobody gave, and room in pools that are not there."""
    for rpc in ("ListVolumes", "ListSnapshots", "ControllerListVolumeHealth"):
        yield Row(rpc, "negative number", put("max_entries", -1), "max_entries")
        for token in ("invalid-token", "!", "AQ", "ä", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"):
            yield Row(rpc, f"token {token}", put("starting_token", token), "starting_token", (AGAIN,))
    for number, snapshot_id in enumerate(UNPARSABLE + ABSENT[1:]):
        yield Row("GetSnapshot", f"id {number}", put("snapshot_id", snapshot_id), "snapshot", (MISSING,))
    for key, value in (("pool", "no-such-pool"), ("dataPool", "no-such-pool"), ("clusterID", "nowhere"), ("x", "y")):
        yield Row("GetCapacity", f"{key} {value}", put_key("parameters", key, value), key)


def both(first: Spoil, second: Spoil) -> Spoil:
    def spoil(request: Any) -> None:
        first(request)
        second(request)

    return spoil


ROWS = [
    *rows_of_fields(),
    *rows_of_capabilities(),
    *rows_of_sizes(),
    *rows_of_secrets(),
    *rows_of_parameters(),
    *rows_of_ids(),
    *rows_of_foreign_handles(),
    *rows_of_listings(),
    *rows_of_publications(),
]
