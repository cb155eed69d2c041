"""NodeGetVolumeHealth: what is wrong with a volume, seen from this node.

Told from the mount table, the stage's record and a look at the device and its file system, each bounded in time: it answers
while a device hangs, and holds no lock. Of a volume that is not mounted here the last failure of its stage or publish is
told, which the process remembers until one succeeds.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from csi_driver.errors import (
    Busy,
    Conflict,
    DeviceTrouble,
    DriverError,
    Inconsistent,
    InvalidRequest,
    NotFound,
    StillWorking,
)
from csi_driver.host.api import Attachment, Machine
from csi_driver.model import HealthStatus, VolumeTrouble
from csi_driver.operations import mounters, stage_record
from csi_driver.operations.stage_record import StagePlace
from csi_driver.operations.staged_volumes import Found, StagedVolumes

_REMEMBERED = 1024
"""Volumes whose last failure is kept: a node has far fewer."""

_CALLERS_OWN = (InvalidRequest, NotFound, Conflict, Busy, StillWorking)
"""What says nothing of the volume: another request is needed, or the same one again."""


class LastFailures:
    """The last failed stage or publish of each volume."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._troubles: dict[str, VolumeTrouble] = {}

    @contextmanager
    def of_stage(self, volume_id: str) -> Iterator[None]:
        try:
            yield
        except _CALLERS_OWN:
            raise
        except DriverError as error:
            self._keep(volume_id, VolumeTrouble(HealthStatus.INACCESSIBLE, "StageFailed", str(error)))
            raise
        self.forget(volume_id)

    @contextmanager
    def of_publish(self, volume_id: str) -> Iterator[None]:
        """A publish that comes before its stage, or is refused because of another one, is no trouble of the volume."""
        try:
            yield
        except (DeviceTrouble, Inconsistent) as error:
            self._keep(volume_id, VolumeTrouble(HealthStatus.INACCESSIBLE, "PublishFailed", str(error)))
            raise
        self.forget(volume_id)

    def forget(self, volume_id: str) -> None:
        with self._guard:
            self._troubles.pop(volume_id, None)

    def find(self, volume_id: str) -> VolumeTrouble | None:
        with self._guard:
            return self._troubles.get(volume_id)

    def _keep(self, volume_id: str, trouble: VolumeTrouble) -> None:
        with self._guard:
            self._troubles.pop(volume_id, None)
            self._troubles[volume_id] = trouble
            if len(self._troubles) > _REMEMBERED:
                del self._troubles[next(iter(self._troubles))]


class NodeHealth:
    """Looks at the volumes of this node."""

    def __init__(self, machine: Machine, failures: LastFailures) -> None:
        self._machine = machine
        self._failures = failures
        self._staged = StagedVolumes(machine.mounts)

    def of(self, volume_id: str, staging_path: Path | None) -> tuple[VolumeTrouble, ...]:
        """Empty: healthy. Raises NotFound for a volume that this node knows nothing of."""
        stages = self._staged.stages_of(volume_id)
        failure = self._failures.find(volume_id)
        troubles = [failure] if failure else []
        if not stages:
            if staging_path and stage_record.load(StagePlace(staging_path, volume_id)) and not failure:
                message = f"a stage at {staging_path} was begun and is not mounted; stage or unstage it"
                troubles.append(VolumeTrouble(HealthStatus.INACCESSIBLE, "NotMounted", message))
            if not troubles:
                raise NotFound(f"volume {volume_id!r} is not on this node")
        for stage in stages:
            troubles += self._troubles(stage)
        return tuple({(one.status, one.reason): one for one in troubles}.values())

    def _troubles(self, stage: Found) -> Iterator[VolumeTrouble]:
        record = stage.volume.record
        attacher = mounters.of_record(self._machine, record)
        try:
            if attacher.recovery and attacher.recovery.is_lost(record.attachment):
                yield _of_waiting_device(record.attachment, attacher.why_dead(record.attachment))
                return
            device = attacher.find(record.attachment)
            if device is None or device.number != stage.volume.number:
                yield _of_lost_device(record.attachment, None if device else attacher.why_dead(record.attachment))
                return
            self._machine.filesystems.probe_device(device.path)
        except DeviceTrouble as trouble:
            yield VolumeTrouble(HealthStatus.INACCESSIBLE, "DeviceFails", str(trouble))
            return
        if not stage.volume.is_block:
            yield from self._filesystem_troubles(stage)

    def _filesystem_troubles(self, stage: Found) -> Iterator[VolumeTrouble]:
        try:
            self._machine.filesystems.probe_mounted(stage.mount.target)
        except DeviceTrouble as trouble:
            yield VolumeTrouble(HealthStatus.INACCESSIBLE, "FilesystemFails", str(trouble))
            return
        if stage.mount.is_read_only and not _is_meant_read_only(stage):
            message = (
                f"the {stage.mount.fs_type} file system at {stage.mount.target} has become read-only after errors: "
                "unpublish, unstage and stage it again, which checks it"
            )
            yield VolumeTrouble(HealthStatus.DEGRADED, "FilesystemReadOnly", message)


def _of_waiting_device(attachment: Attachment, why: str | None) -> VolumeTrouble:
    """It comes back by itself: healing.py."""
    message = (
        f"image {attachment.spec}: {why or 'the device waits'}; it is served again soon, or when it is staged again"
    )
    return VolumeTrouble(HealthStatus.INACCESSIBLE, "DeviceFails", message)


def _of_lost_device(attachment: Attachment, why_dead: str | None) -> VolumeTrouble:
    """Either way it comes back by a new stage alone."""
    reason, what = ("DeviceFails", why_dead) if why_dead else ("DeviceGone", "the device is gone")
    message = f"image {attachment.spec}: {what}; unpublish, unstage and stage it again"
    return VolumeTrouble(HealthStatus.INACCESSIBLE, reason, message)


def _is_meant_read_only(stage: Found) -> bool:
    record = stage.volume.record
    flags = record.capability.mount_flags if record.capability else ()
    return record.attachment.read_only or "ro" in flags
