"""Names of objects and keys: the layout of existing Ceph CSI deployments, and the keys that this driver adds."""

from dataclasses import dataclass
from enum import StrEnum

# The keys that ceph-csi writes too.
IMAGE_NAME = "csi.imagename"
IMAGE_ID = "csi.imageid"
OWNER = "csi.volume.owner"
ENCRYPT_KMS = "csi.volume.encryptKMS"
ENCRYPTION_TYPE = "csi.volume.encryptionType"
JOURNAL_POOL = "csi.journalpool"

# Own keys of O.
STATE = "state"
MAKER = "maker"
MADE_AT = "made_at"
"""Seconds since the epoch at which `making` began, by the maker's clock: only for the grace time, which is politeness."""
REQUEST = "request"
"""The request as agreed on: JSON, ASCII."""
SIZE = "size"
"""Bytes of the image, by the last create or expand."""
UNMADE = "unmade"
"""Set with `deleting`: the image was never handed out, so that it is removed and needs no trash."""
RETENTION = "retention"
"""Of a volume: for how many seconds it is kept after its delete; missing: not at all. From the class, at its create."""
KEPT_UNTIL = "kept_until"
"""Set with `tombstone` or `trashed`, for a volume with a retention: nothing of it is shrunk or purged before, in seconds
since the epoch. Empty again once it is brought back."""
MUTABLE = "mutable"
"""Of a volume: its mutable parameters and their number, as JSON; missing while none was ever set."""
RESIZER = "resizer"
"""Of a volume: who grows its image, and since when, as `<address> <seconds since the epoch>`; missing or empty: nobody."""
PUBLICATIONS = "publications"
"""The nodes that the volume is published to (publications.py); missing or empty: none."""
DEPTH = "depth"
"""How many ancestors the image has, at most: a flatten makes it less."""
CLONED_FROM = "cloned_from"
"""Where the image was cloned from, as JSON: what an undo or a purge has to look after there."""
SOURCE_HANDLE = "source"
"""Of a snapshot: the volume's handle."""
SOURCE_IMAGE = "csi.source"
"""Of a snapshot: the source's image name. ceph-csi writes it too."""
SOURCE_IMAGE_ID = "source_image_id"
SNAP_NAME = "snap_name"
"""Of a native snapshot: the snap's name on the source's image. An entry without it is ceph-csi's image per snapshot."""
SNAP_ID = "snap_id"
CREATED_AT = "created_at"
"""Of a snapshot: the snap's own time, in seconds since the epoch."""
TOPOLOGY = "topology"
"""Of a snapshot whose volume is bound to a part of the topology: its segments, as JSON."""
GROUP_ID = "csi.groupid"
"""Of a snapshot: the handle of the group snapshot that it is part of."""
GROUP_NAME = "csi.groupname"
"""Of a group snapshot: the name of its RBD group. ceph-csi writes it too."""
MEMBERS = "members"
"""Of a group snapshot: its volumes, and the uuids of their snapshots, as JSON."""
LAYOUT = "layout"
LAYOUT_VERSION = "1"


class State(StrEnum):
    """The states of O. FOREIGN is the missing key: an object that ceph-csi made."""

    FOREIGN = ""
    MAKING = "making"
    FLATTENING = "flattening"
    """A copy's image is whole, and too deep to be handed out: it waits for its flatten. No maker is needed any more."""
    COMPLETE = "complete"
    DELETING = "deleting"
    TOMBSTONE = "tombstone"
    SHRUNK = "shrunk"
    TRASHED = "trashed"
    PURGING = "purging"
    RESTORING = "restoring"
    """Deleted, and being brought back by `maker`."""


@dataclass(frozen=True)
class Kind:
    """One kind of entry: how its directory, object and keys are called."""

    noun: str
    directory_prefix: str
    object_prefix: str
    request_name: str
    image_prefix: str

    def directory(self, instance: str) -> str:
        return self.directory_prefix + instance

    def object(self, uuid: str) -> str:
        return self.object_prefix + uuid

    def name_key(self, request_name: str) -> str:
        """The directory's keys begin like the objects' names."""
        return self.object_prefix + request_name


VOLUMES = Kind("volume", "csi.volumes.", "csi.volume.", "csi.volname", "csi-vol-")
GROUPS = Kind("group snapshot", "csi.groups.", "csi.volume.group.", "csi.volname", "csi-vol-group-")
SNAPSHOTS = Kind("snapshot", "csi.snaps.", "csi.snap.", "csi.snapname", "csi-snap-")


def makers(instance: str) -> str:
    return f"csi.makers.{instance}"


def flatten_queue(instance: str) -> str:
    return f"csi.flatten.{instance}"


def flatten_worker(instance: str) -> str:
    return f"csi.flatten_worker.{instance}"


def nodes(instance: str) -> str:
    return f"csi.nodes.{instance}"


def node_claims(instance: str, node_id: str) -> str:
    return f"csi.node.{instance}.{node_id}"


BEGUN_PREFIX = "making."


def begun_key(uuid: str) -> str:
    """Beside a name's key: the keys with which the object will begin, as JSON."""
    return BEGUN_PREFIX + uuid


DELETED_PREFIX = "deleted."


def deleted_key(uuid: str) -> str:
    return DELETED_PREFIX + uuid
