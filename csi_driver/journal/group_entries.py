"""Entries of group snapshots: what O says of one, parsed from its keys and written to them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from csi_driver.ceph.api import Pool
from csi_driver.journal import layout
from csi_driver.journal.entries import Entry, common_fields
from csi_driver.journal.journal import Journal
from csi_driver.journal.layout import GROUPS


@dataclass(frozen=True)
class Member:
    """One volume of the group, and the snapshot that it gets: its uuid is known before there is anything of it."""

    source_handle: str
    pool_id: int
    image_name: str
    image_id: str
    snapshot_uuid: str


@dataclass(frozen=True)
class GroupEntry(Entry):
    """A group snapshot. `image_name` is the name of its RBD group."""

    members: tuple[Member, ...] = ()
    created_at: float = 0.0

    @property
    def sources(self) -> frozenset[str]:
        """Handles of the volumes."""
        return frozenset(one.source_handle for one in self.members)

    def member_of(self, image_id: str) -> Member | None:
        return next((one for one in self.members if one.image_id == image_id), None)

    @classmethod
    def parse(cls, uuid: str, keys: Mapping[str, str]) -> Self:
        """Raises ValueError on a state or number that no version of the driver writes."""
        return cls(
            **common_fields(uuid, keys, GROUPS),
            image_name=keys.get(layout.GROUP_NAME) or GROUPS.image_prefix + uuid,
            members=tuple(Member(**one) for one in json.loads(keys.get(layout.MEMBERS) or "[]")),
            created_at=float(keys.get(layout.CREATED_AT) or "0"),
        )

    def own_keys(self) -> dict[str, str]:
        return {
            layout.GROUP_NAME: self.image_name,
            layout.MEMBERS: json.dumps([asdict(one) for one in self.members], sort_keys=True),
        }


def group_journal(pool: Pool, instance: str) -> Journal[GroupEntry]:
    return Journal(pool, instance, GROUPS, GroupEntry.parse)
