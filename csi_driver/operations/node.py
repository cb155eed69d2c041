"""The node half's operations as the Node service calls them: stage, publish, and the calls about a volume in use."""

from dataclasses import dataclass
from pathlib import Path

from csi_driver.errors import InUse, InvalidRequest, OutOfRange
from csi_driver.host.api import Device, Machine, Usage
from csi_driver.locks import KeyedLocks
from csi_driver.model import CapacityRange, VolumeTrouble
from csi_driver.operations import mounters
from csi_driver.operations.healing import Healing
from csi_driver.operations.node_health import LastFailures, NodeHealth
from csi_driver.operations.publishing import Publishing
from csi_driver.operations.stage_parts import Locator, StageRequest
from csi_driver.operations.stage_record import Publication, StagePlace
from csi_driver.operations.staged_volumes import StagedHere, StagedVolumes, volume_lock
from csi_driver.operations.staging import Staging
from csi_driver.operations.volume_keys import VolumeKeys
from csi_driver.tracing import step


@dataclass(frozen=True)
class GrowRequest:
    """A NodeExpandVolume. The path is a target or the staging path; is_block None: the request does not say."""

    volume_id: str
    path: Path
    capacity: CapacityRange
    is_block: bool | None = None


class NodeOperations:
    """All state is in the mount table and beside the stages: a new object over the same machine goes on."""

    def __init__(self, machine: Machine, locator: Locator, locks: KeyedLocks, keys: VolumeKeys) -> None:
        self._machine = machine
        self._locks = locks
        self._staged = StagedVolumes(machine.mounts)
        self._staging = Staging(machine, locator, locks, keys)
        self._publishing = Publishing(machine, locks)
        self._failures = LastFailures()
        self._health = NodeHealth(machine, self._failures)
        self.healing = Healing(machine, locator)

    def stage(self, request: StageRequest) -> None:
        with self._failures.of_stage(request.place.volume_id):
            self._staging.stage(request)

    def unstage(self, place: StagePlace) -> None:
        self._staging.unstage(place)
        self._failures.forget(place.volume_id)

    def publish(self, place: StagePlace, publication: Publication) -> None:
        with self._failures.of_publish(place.volume_id):
            self._publishing.publish(place, publication)

    def unpublish(self, volume_id: str, target: Path) -> None:
        self._publishing.unpublish(volume_id, target)

    def usage(self, volume_id: str, path: Path) -> Usage:
        """Takes no lock and asks no daemon: it answers while other calls hang. Raises NotFound, DeviceTrouble."""
        found = self._staged.find(volume_id, path)
        if found.volume.is_block:
            return Usage(total_bytes=self._machine.mounts.device_size_bytes(found.volume.number))
        return self._machine.filesystems.usage(found.mount.target)

    def health(self, volume_id: str, staging_path: Path | None) -> tuple[VolumeTrouble, ...]:
        """Takes no lock. Raises NotFound for a volume that this node knows nothing of."""
        return self._health.of(volume_id, staging_path)

    def attach_trouble(self) -> str:
        """Why this node can attach no image; empty when it can."""
        reasons = {one.name: one.unavailable_reason() for one in self._machine.attachers}
        if not all(reasons.values()):
            return ""
        return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())

    def grow(self, request: GrowRequest) -> int:
        """Device and file system take over the image's size; that size. Raises NotFound, OutOfRange, InUse."""
        with self._locks.hold(volume_lock(request.volume_id)):
            found = self._staged.find(request.volume_id, request.path)
            volume = found.volume
            if request.is_block not in (None, volume.is_block):
                raise InvalidRequest(f"volume_capability does not fit: volume {request.volume_id} is staged otherwise")
            device = self._current_device(volume, request.capacity.required_bytes)
            size_bytes = mounters.below_encryption(self._machine, volume.record, device).size_bytes
            if not request.capacity.holds(size_bytes):
                raise OutOfRange(
                    f"volume {request.volume_id} has {size_bytes} bytes; at least {request.capacity.required_bytes} "
                    f"and at most {request.capacity.limit_bytes or 'any number'} are asked for; the controller grows it first"
                )
            staged = self._staged.mount_at(volume.place.volume_path)
            if staged and not volume.is_block and not staged.is_read_only:
                with step("node.grow", request.volume_id):
                    self._machine.filesystems.grow_mounted(device.path, staged.target, staged.fs_type)
            return size_bytes

    def _current_device(self, volume: StagedHere, at_least: int) -> Device:
        attacher = mounters.of_record(self._machine, volume.record)
        attachment = volume.record.attachment
        device = attacher.find(attachment) if attachment.read_only else attacher.refresh_size(attachment, at_least)
        if device is None or device.number != volume.number:
            raise InUse(f"the device of volume {attachment.volume_id} is gone: unpublish, unstage and stage it again")
        return device
