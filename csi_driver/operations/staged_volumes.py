"""Which volume is where on this node, told from the mount table and the stage records, never from memory.

A volume is staged where a mount at `<staging path>/<volume id>` has a record beside it; everything that is mounted from
the same block device is that volume. So a restart loses nothing, and calls that carry no staging path find it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from csi_driver.errors import NotFound
from csi_driver.host.api import Mount, Mounts
from csi_driver.operations import stage_record
from csi_driver.operations.stage_record import Publication, StagePlace, StageRecord


def volume_lock(volume_id: str) -> str:
    return f"volume {volume_id} on this node"


@dataclass(frozen=True)
class StagedHere:
    """A volume that is staged. `number` is its block device; is_block: staged as a block device."""

    place: StagePlace
    record: StageRecord
    number: str
    is_block: bool


@dataclass(frozen=True)
class Found:
    """What is mounted at a path, and the volume that it is."""

    mount: Mount
    volume: StagedHere


class StagedVolumes:
    """Finds staged volumes and their publications."""

    def __init__(self, mounts: Mounts) -> None:
        self._mounts = mounts

    def mount_at(self, target: Path) -> Mount | None:
        """The mount that is seen at a path: the last one made there."""
        return next((mount for mount in reversed(self._mounts.table()) if mount.target == target), None)

    def owners(self, number: str) -> list[StagedHere]:
        """The staged volumes on a block device: one, unless a volume was staged at two paths."""
        return [
            found.volume for found in self._stages(lambda mount, _place: self._mounts.block_number(mount) == number)
        ]

    def stages_of(self, volume_id: str) -> list[Found]:
        """Where a volume is staged: one place, unless it was staged at two paths."""
        return list(self._stages(lambda _mount, place: place.volume_id == volume_id))

    def _stages(self, is_meant: Callable[[Mount, StagePlace], bool]) -> Iterator[Found]:
        """Records are read where the mount and its place are meant alone."""
        for mount in self._mounts.table():
            place = StagePlace(mount.target.parent, mount.target.name)
            if place.volume_id and is_meant(mount, place) and (record := stage_record.load(place)):
                number = self._mounts.block_number(mount)
                yield Found(mount, StagedHere(place, record, number, is_block=mount.device != number))

    def find(self, volume_id: str, path: Path) -> Found:
        """The volume at a path where it is published or staged. Raises NotFound when it is not that volume."""
        mount = self.mount_at(path) or self.mount_at(path / volume_id)
        if mount:
            for owner in self.owners(self._mounts.block_number(mount)):
                if owner.place.volume_id == volume_id:
                    return Found(mount, owner)
        raise NotFound(f"volume {volume_id!r} is not at {path}")

    def publications(self, place: StagePlace, number: str) -> dict[Path, Publication]:
        """The recorded publications of a device that are really mounted."""
        mounted = {mount.target for mount in self._mounts.table() if self._mounts.block_number(mount) == number}
        return {
            target: publication
            for target, publication in stage_record.load_publications(place).items()
            if target in mounted
        }
