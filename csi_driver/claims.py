"""What an orchestrator says that there is: volumes and snapshots by handle, with the names that they were asked for by."""

from dataclasses import dataclass

from csi_driver.ids import Handle


@dataclass(frozen=True)
class VolumeClaim:
    """A volume that was handed out. image_name, journal_pool: empty where nothing is said of them.

    kms_id: empty where it is not encrypted.
    """

    handle: Handle
    request_name: str
    image_name: str = ""
    owner: str = ""
    journal_pool: str = ""
    kms_id: str = ""


@dataclass(frozen=True)
class SnapshotClaim:
    """A snapshot that was handed out."""

    handle: Handle
    request_name: str
    source: Handle | None = None


@dataclass(frozen=True)
class MemberClaim:
    """A snapshot of a group, and the volume that it is of."""

    source: Handle
    snapshot: Handle


@dataclass(frozen=True)
class GroupClaim:
    """A group snapshot that was handed out."""

    handle: Handle
    request_name: str
    members: tuple[MemberClaim, ...]


@dataclass(frozen=True)
class Claims:
    """All of them. The snapshots may be those of groups, too."""

    volumes: tuple[VolumeClaim, ...] = ()
    snapshots: tuple[SnapshotClaim, ...] = ()
    groups: tuple[GroupClaim, ...] = ()
