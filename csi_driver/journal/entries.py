"""Entries of the journal as values: what O says of a volume or a snapshot, parsed from its keys and written to them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from csi_driver.journal import layout
from csi_driver.journal.layout import SNAPSHOTS, VOLUMES, State
from csi_driver.model import Segments
from csi_driver.mutable import NOTHING_SET, MutableParameters


@dataclass(frozen=True)
class Entry:
    """What volumes and snapshots have in common. `size_bytes` is 0 where it is not recorded.

    `image_name` is the image that belongs to the entry: empty for a native snapshot, which is a snap on its source's.
    is_noted: it stands beside its name alone, and its object is not written yet.
    """

    uuid: str
    state: State
    request_name: str
    image_name: str
    image_id: str = ""
    maker: str = ""
    made_at: float = 0.0
    size_bytes: int = 0
    depth: int | None = None
    publications: str = ""
    resizer: str = ""
    journal_pool_id: int | None = None
    mutable: MutableParameters = NOTHING_SET
    is_unmade: bool = False
    is_noted: bool = False

    @property
    def is_usable(self) -> bool:
        """Whether it was, or may have been, handed out and not deleted since."""
        return self.state in (State.COMPLETE, State.FOREIGN)

    def own_keys(self) -> dict[str, str]:
        """The keys with which the entry begins, but for those that every entry has."""
        raise NotImplementedError


@dataclass(frozen=True)
class ClonedFrom:
    """A snap of which an image was cloned. is_temporary: made for this clone alone, and removed with it."""

    pool_id: int
    image_id: str
    snap_name: str
    is_temporary: bool


@dataclass(frozen=True)
class VolumeEntry(Entry):
    """A volume. `request` is None in an entry of ceph-csi.

    retention_s: for how long a delete keeps it · kept_until: until when it did, in seconds since the epoch; 0: it did not ·
    kms_id: who keeps its key; empty: it is not encrypted
    """

    request: Mapping[str, Any] | None = None
    owner: str = ""
    cloned_from: ClonedFrom | None = None
    retention_s: int = 0
    kept_until: float = 0.0
    kms_id: str = ""

    @classmethod
    def parse(cls, uuid: str, keys: Mapping[str, str]) -> Self:
        """Raises ValueError on a state or number that no version of the driver writes."""
        cloned_from = keys.get(layout.CLONED_FROM)
        common = common_fields(uuid, keys, VOLUMES)
        mutable: MutableParameters = common["mutable"]
        return cls(
            **common,
            image_name=keys.get(layout.IMAGE_NAME) or VOLUMES.image_prefix + uuid,
            request=json.loads(keys[layout.REQUEST]) if layout.REQUEST in keys else None,
            owner=keys.get(layout.OWNER, ""),
            kms_id=keys.get(layout.ENCRYPT_KMS, ""),
            cloned_from=ClonedFrom(**json.loads(cloned_from)) if cloned_from else None,
            retention_s=mutable.retention_s(int(keys.get(layout.RETENTION) or "0")),
            kept_until=float(keys.get(layout.KEPT_UNTIL) or "0"),
        )

    @property
    def topology(self) -> Segments:
        """From where the volume can be reached; empty: from everywhere."""
        segments: Segments = (self.request or {}).get("topology", {})
        return segments

    def own_keys(self) -> dict[str, str]:
        keys = {layout.IMAGE_NAME: self.image_name, layout.REQUEST: json.dumps(self.request, sort_keys=True)}
        if self.owner:
            keys[layout.OWNER] = self.owner
        if self.kms_id:
            keys |= {layout.ENCRYPT_KMS: self.kms_id, layout.ENCRYPTION_TYPE: "block"}
        if self.journal_pool_id is not None:
            keys[layout.JOURNAL_POOL] = f"{self.journal_pool_id:016x}"
        if self.cloned_from:
            keys[layout.CLONED_FROM] = json.dumps(asdict(self.cloned_from))
        if self.retention_s:
            keys[layout.RETENTION] = str(self.retention_s)
        if self.mutable.version:
            keys[layout.MUTABLE] = str(self.mutable)
        return keys


@dataclass(frozen=True)
class SnapshotEntry(Entry):
    """A snapshot. Native: a snap of this name and id on the source's image. Else ceph-csi's: an image with one snap."""

    source_handle: str = ""
    source_image: str = ""
    source_image_id: str = ""
    snap_name: str = ""
    snap_id: int = 0
    created_at: float = 0.0
    topology: Segments = field(default_factory=dict)
    group_handle: str = ""
    kms_id: str = ""
    """Of ceph-csi's: who keeps the key of its image. A native one has its source's."""
    owner: str = ""
    """Likewise the namespace."""

    @property
    def is_native(self) -> bool:
        return bool(self.snap_name)

    @classmethod
    def parse(cls, uuid: str, keys: Mapping[str, str]) -> Self:
        """Raises ValueError on a state or number that no version of the driver writes."""
        snap_name = keys.get(layout.SNAP_NAME, "")
        image_name = "" if snap_name else keys.get(layout.IMAGE_NAME) or SNAPSHOTS.image_prefix + uuid
        return cls(
            **common_fields(uuid, keys, SNAPSHOTS),
            image_name=image_name,
            source_handle=keys.get(layout.SOURCE_HANDLE, ""),
            source_image=keys.get(layout.SOURCE_IMAGE, ""),
            source_image_id=keys.get(layout.SOURCE_IMAGE_ID, ""),
            snap_name=snap_name,
            snap_id=int(keys.get(layout.SNAP_ID, "0")),
            created_at=float(keys.get(layout.CREATED_AT, "0")),
            topology=json.loads(keys.get(layout.TOPOLOGY) or "{}"),
            group_handle=keys.get(layout.GROUP_ID, ""),
            owner=keys.get(layout.OWNER, ""),
            kms_id=keys.get(layout.ENCRYPT_KMS, ""),
        )

    def own_keys(self) -> dict[str, str]:
        """Never `csi.imagename` of the source: ceph-csi would delete that image with the snapshot."""
        topology = {layout.TOPOLOGY: json.dumps(dict(self.topology), sort_keys=True)} if self.topology else {}
        group = {layout.GROUP_ID: self.group_handle} if self.group_handle else {}
        return (
            topology
            | group
            | {
                layout.SOURCE_HANDLE: self.source_handle,
                layout.SOURCE_IMAGE: self.source_image,
                layout.SOURCE_IMAGE_ID: self.source_image_id,
                layout.SNAP_NAME: self.snap_name,
            }
        )


def common_fields(uuid: str, keys: Mapping[str, str], kind: layout.Kind) -> dict[str, Any]:
    """Of `Entry`, but for the image's name."""
    journal_pool = keys.get(layout.JOURNAL_POOL, "")
    return {
        "uuid": uuid,
        "state": State(keys.get(layout.STATE, "")),
        "request_name": keys.get(kind.request_name, ""),
        "image_id": keys.get(layout.IMAGE_ID, ""),
        "maker": keys.get(layout.MAKER, ""),
        "made_at": float(keys.get(layout.MADE_AT, "0")),
        "size_bytes": int(keys.get(layout.SIZE, "0")),
        "depth": int(keys[layout.DEPTH]) if layout.DEPTH in keys else None,
        "publications": keys.get(layout.PUBLICATIONS, ""),
        "resizer": keys.get(layout.RESIZER, ""),
        "journal_pool_id": int(journal_pool, 16) if journal_pool else None,
        "mutable": MutableParameters.parse(keys.get(layout.MUTABLE, "")),
        "is_unmade": layout.UNMADE in keys,
    }
