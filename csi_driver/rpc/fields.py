"""Checks of single fields that all services share. Each error names the field, the value and what is allowed.

Sizes are those of the CSI spec, "Size Limits": strings 128 bytes, maps 4 KiB; paths may be longer.
"""

import unicodedata
from collections.abc import Iterable, Mapping

from csi_driver.addresses import Credentials
from csi_driver.errors import InvalidRequest
from csi_driver.model import AccessMode, Capability
from csi_driver.pb import csi_pb2 as pb

MAX_TEXT_BYTES = 128
MAX_MAP_BYTES = 4096
MAX_PATH_BYTES = 3840
"""PATH_MAX less what the driver appends: an id and the name of a file of its own."""
MAX_FILE_NAME_BYTES = 255
"""NAME_MAX of every file system that a kubelet's directory is on."""
FILE_SYSTEMS = ("ext4", "xfs")

_COMMON_WHITESPACE = str.maketrans("\t\n\r", "   ")
_MODE = pb.VolumeCapability.AccessMode.Mode
_MODES = {number: AccessMode(name) for name, number in _MODE.items() if name != "UNKNOWN"}


def check_text(field: str, value: str, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Any Unicode but control characters."""
    if len(value) <= max_bytes and value.isascii() and value.isprintable():
        return value  # as nearly all are
    size = len(value.encode(errors="surrogatepass"))
    if size > max_bytes:
        raise InvalidRequest(f"{field} has {size} bytes; at most {max_bytes} are allowed")
    if any(unicodedata.category(one) in ("Cc", "Cs") for one in value):
        raise InvalidRequest(f"{field} {value!r} has control characters; they are not allowed")
    return value


def required(field: str, value: str, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """A text that must be there."""
    if not value:
        raise InvalidRequest(f"{field} is missing")
    return check_text(field, value, max_bytes)


def required_name(field: str, value: str) -> str:
    """A name that the orchestrator chose: tab, line feed and carriage return are allowed in it (CSI: CreateVolume)."""
    required(field, value.translate(_COMMON_WHITESPACE))
    return value


def required_path(field: str, value: str) -> str:
    """Raises InvalidRequest also for a path that no kernel would take: ENAMETOOLONG says nothing of a volume."""
    required(field, value, MAX_PATH_BYTES)
    longest = max(len(name.encode()) for name in value.split("/"))
    if longest > MAX_FILE_NAME_BYTES:
        raise InvalidRequest(f"{field} has a name of {longest} bytes; at most {MAX_FILE_NAME_BYTES} are allowed")
    return value


def check_map(field: str, value: Mapping[str, str], *, secret: bool = False) -> dict[str, str]:
    """Values of a secret map are not looked into here, and never shown."""
    size = sum(len(key.encode()) + len(text.encode()) for key, text in value.items())
    if size > MAX_MAP_BYTES:
        raise InvalidRequest(f"{field} has {size} bytes; at most {MAX_MAP_BYTES} are allowed")
    for key, text in value.items():
        check_text(f"a key of {field}", key)
        if not secret:
            check_text(f"{field}[{key!r}]", text, MAX_MAP_BYTES)
    return dict(value)


def parse_credentials(secrets: Mapping[str, str]) -> Credentials | None:
    """`userID` and `userKey`; None when neither is given."""
    given = check_map("secrets", secrets, secret=True)
    user, key = given.get("userID", ""), given.get("userKey", "").strip()
    if not user and not key:
        if given:
            raise InvalidRequest(f"secrets have no userID and userKey, but {', '.join(sorted(given))}")
        return None
    for name, value in (("userID", user), ("userKey", key)):
        if not value:
            raise InvalidRequest(f"secrets have no {name}; userID and userKey go together")
    return Credentials(check_text("secret userID", user).removeprefix("client."), key)


def parse_capability(capability: pb.VolumeCapability, field: str) -> Capability:
    """One capability, valid in itself: access type and mode there, known, and fit for each other."""
    kind = capability.WhichOneof("access_type")
    if kind is None:
        raise InvalidRequest(f"{field}.access_type is missing; allowed are block and mount")
    number = capability.access_mode.mode
    mode = _MODES.get(number)
    if mode is None:
        allowed = ", ".join(AccessMode)
        raise InvalidRequest(f"{field}.access_mode.mode is {number} (missing or unknown); allowed are {allowed}")
    if kind == "block":
        return Capability(mode, is_block=True)
    if mode.is_multi_node and not mode.is_read_only:
        raise InvalidRequest(
            f"{field}.access_mode.mode {mode} with a file system: several nodes would destroy it; "
            "multi-node writers are for block volumes only"
        )
    mount = capability.mount
    if mount.volume_mount_group:
        raise InvalidRequest(f"{field}.mount.volume_mount_group is not supported; leave it to fsGroupPolicy File")
    if mount.fs_type and mount.fs_type not in FILE_SYSTEMS:
        raise InvalidRequest(
            f"{field}.mount.fs_type {mount.fs_type!r} is not supported; allowed are {', '.join(FILE_SYSTEMS)}"
        )
    flags = tuple(check_text(f"{field}.mount.mount_flags", flag, MAX_MAP_BYTES) for flag in mount.mount_flags)
    if sum(len(flag.encode()) for flag in flags) > MAX_MAP_BYTES:
        raise InvalidRequest(f"{field}.mount.mount_flags have more than {MAX_MAP_BYTES} bytes")
    return Capability(mode, is_block=False, fs_type=mount.fs_type, mount_flags=flags)


def parse_capabilities(capabilities: Iterable[pb.VolumeCapability]) -> tuple[Capability, ...]:
    """At least one; block and mount do not go together in one volume."""
    parsed = tuple(parse_capability(one, f"volume_capabilities[{n}]") for n, one in enumerate(capabilities))
    if not parsed:
        raise InvalidRequest("volume_capabilities is missing; at least one is required")
    if len({one.is_block for one in parsed}) > 1:
        raise InvalidRequest("volume_capabilities ask for block and mount at once; one volume is one of them")
    return parsed
