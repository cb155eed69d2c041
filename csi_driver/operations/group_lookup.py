"""GetVolumeGroupSnapshot: from the journal alone."""

from collections.abc import Collection

from csi_driver.addresses import Credentials
from csi_driver.errors import NotFound, PoolMissing
from csi_driver.model import GroupSnapshot
from csi_driver.operations.group_deletion import refuse_other_members
from csi_driver.operations.group_members import describe_group
from csi_driver.operations.site import Sites, parse_handle


class GroupLookup:
    """Finds group snapshots."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    def find(self, group_id: str, snapshot_ids: Collection[str], credentials: Credentials | None) -> GroupSnapshot:
        """Raises NotFound, InvalidRequest for other snapshots than its own."""
        handle = parse_handle(group_id, "group snapshot")
        try:
            with self._sites.open_of(handle, credentials) as site:
                entry = site.groups.load(handle.uuid)
                if entry is None or not entry.is_usable:
                    raise NotFound(f"there is no group snapshot {group_id!r}")
                refuse_other_members(site, entry, snapshot_ids)
                return describe_group(site, entry)
        except PoolMissing as error:
            raise NotFound(f"there is no group snapshot {group_id!r}: {error}") from error
