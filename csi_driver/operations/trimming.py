"""What `rbd-csi node trim` does: a mounted file system tells its volume's image what it does not use, which Ceph gets back.

It changes nothing that anybody reads, excludes nothing and is excluded by nothing; while it runs the mount cannot be taken
away, and an unpublish or unstage waits for its end.
"""

from dataclasses import dataclass
from pathlib import Path

from csi_driver.errors import InvalidRequest, NotFound
from csi_driver.host.api import Filesystems, Mounts
from csi_driver.operations.staged_volumes import StagedVolumes


@dataclass(frozen=True)
class Trimmed:
    """What was told to the device, whether or not there was data."""

    volume_id: str
    size_bytes: int


def trim(mounts: Mounts, filesystems: Filesystems, path: Path, *, timeout_s: float) -> Trimmed:
    """Of the volume staged or published at a path. Raises NotFound, InvalidRequest, DeviceTrouble as `Filesystems.trim`."""
    staged = StagedVolumes(mounts)
    mount = staged.mount_at(path)
    owner = next(iter(staged.owners(mounts.block_number(mount))), None) if mount else None
    if mount is None or owner is None:
        raise NotFound(f"no volume of this node is mounted at {path}")
    if owner.is_block:
        raise InvalidRequest(
            f"volume {owner.place.volume_id} is a block device at {path}: what it holds is not known here"
        )
    if mount.is_read_only:
        raise InvalidRequest(f"volume {owner.place.volume_id} is mounted read-only at {path}")
    device = Path(owner.record.device) if owner.record.device else None  # older versions of the Go driver record none
    return Trimmed(owner.place.volume_id, filesystems.trim(device, path, timeout_s=timeout_s))
