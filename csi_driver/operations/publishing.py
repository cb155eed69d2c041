"""NodePublishVolume and NodeUnpublishVolume: bind mounts from a stage to the target paths of pods.

Order of a publish: its entry in publications.json, the target, the pod's limits of I/O where what attached the volume holds
none, the bind, the read-only flag; a publish that fails takes all of it back, but for the limits, which end with the pod.
Order of an unpublish: unmount, target, entry. What is published where is told by entry and mount together.

A block device that is published read-only while it is staged writable is bound read-only, which keeps nobody who may open
device files from writing: the container runtime gives the container read access to it alone.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise
from pathlib import Path

import structlog

from csi_driver.errors import Conflict, DriverError, InUse, NotFound
from csi_driver.host.api import Machine, Mount
from csi_driver.locks import KeyedLocks
from csi_driver.operations import stage_record
from csi_driver.operations.stage_record import Publication, StagePlace
from csi_driver.operations.staged_volumes import StagedHere, StagedVolumes, volume_lock
from csi_driver.operations.target_paths import make_target, refuse_links, remove_target
from csi_driver.tracing import step

log = structlog.get_logger(__name__)

_POD = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")
"""A pod's uid; of one that a node's own file describes it is a hash."""


class PublishStep(Enum):
    NOTHING = auto()  # published here with the same arguments
    BIND = auto()  # not there yet, or stopped between the bind and its read-only flag


@dataclass(frozen=True)
class AtTarget:
    """What a look at the target path found. is_this_volume tells whose mount it is; entry is what was recorded for it."""

    mount: Mount
    is_this_volume: bool
    entry: Publication | None


def decide_publish(wanted: Publication, here: AtTarget | None, others: list[Publication]) -> PublishStep:
    """CSI, NodePublishVolume, table of arguments. others: publications at other targets, all mounted.

    Raises Conflict (ALREADY_EXISTS) for this target, InUse (FAILED_PRECONDITION) because of another one.
    """
    if here:
        if not here.is_this_volume:
            raise Conflict(f"something else is mounted at {wanted.target}")
        if here.entry is None and here.mount.is_read_only != wanted.read_only:
            raise Conflict(f"the volume is published at {wanted.target} {_readability(here.mount.is_read_only)}")
        if here.entry and here.entry != wanted:
            was = f"as {here.entry.capability}, {_readability(here.entry.read_only)}"
            raise Conflict(f"the volume is published at {wanted.target} {was}")
        return PublishStep.NOTHING if here.mount.is_read_only or not wanted.read_only else PublishStep.BIND
    for other in others:
        if not (wanted.capability.mode.allows_second_target and other.capability.mode.allows_second_target):
            raise InUse(
                f"the volume is published at {other.target} as {other.capability.mode}; "
                f"a second target as {wanted.capability.mode} is not allowed"
            )
    return PublishStep.BIND


class Publishing:
    """Publishes and unpublishes volumes; one call per volume and per target at a time."""

    def __init__(self, machine: Machine, locks: KeyedLocks) -> None:
        self._mounts = machine.mounts
        self._limits = machine.limits
        self._locks = locks
        self._staged = StagedVolumes(machine.mounts)

    def publish(self, place: StagePlace, wanted: Publication) -> None:
        with self._locks.hold(volume_lock(place.volume_id), _target_lock(wanted.target)):
            refuse_links(wanted.target)
            volume = self._staged_at(place, wanted)
            entries = stage_record.load_publications(place)
            published = self._staged.publications(place, volume.number)
            others = [entry for target, entry in published.items() if target != wanted.target]
            here = self._look_at(wanted.target, volume, entries)
            if decide_publish(wanted, here, others) is PublishStep.NOTHING:
                return
            made = False
            try:
                with step("node.record_publication", str(wanted.target)):
                    entries = {entry.target: entry for entry in others} | {wanted.target: wanted}
                    stage_record.save_publications(place, entries)
                made = make_target(wanted.target, is_file=volume.is_block)
                self._limit(volume, wanted.target)
                with step("node.publish", str(wanted.target)):
                    self._mounts.bind(place.volume_path, wanted.target, read_only=wanted.read_only)
            except DriverError:
                self._take_back(place, wanted.target, made=made)
                raise

    def _limit(self, volume: StagedHere, target: Path) -> None:
        """Raises InUse for a target that is no pod's, DeviceTrouble."""
        io_max = volume.record.io_max
        if not io_max:
            return
        pod = pod_of(target)
        if pod is None:
            raise InUse(f"volume {volume.place.volume_id} has limits, which pods get, and {target} is not a pod's")
        with step("node.limit", str(target)):
            self._limits.hold(pod, volume.number, io_max)

    def unpublish(self, volume_id: str, target: Path) -> None:
        """Without staging path: the mount at the target leads to the volume, its stage and its record."""
        with self._locks.hold(volume_lock(volume_id), _target_lock(target)):
            refuse_links(target)
            owners: list[StagedHere] = []
            if mount := self._staged.mount_at(target):
                owners = self._staged.owners(self._mounts.block_number(mount))
                if owners and all(owner.place.volume_id != volume_id for owner in owners):
                    raise NotFound(f"{target} belongs to volume {owners[0].place.volume_id}, not to {volume_id!r}")
            with step("node.unpublish", str(target)):
                self._mounts.unmount(target)
                remove_target(target)
            for owner in owners:
                _forget(owner.place, target)

    def _staged_at(self, place: StagePlace, wanted: Publication) -> StagedHere:
        """Raises InUse when the volume is not staged there, or not in a way that allows this."""
        mount = self._staged.mount_at(place.volume_path)
        record = stage_record.load(place)
        if not mount or not record:
            raise InUse(f"volume {place.volume_id} is not staged at {place.path}: stage it first")
        number = self._mounts.block_number(mount)
        volume = StagedHere(place, record, number, is_block=mount.device != number)
        if volume.is_block != wanted.capability.is_block:
            kind = "a block device" if volume.is_block else "a file system"
            raise InUse(f"volume {place.volume_id} is staged as {kind}, and cannot be published as {wanted.capability}")
        if record.attachment.read_only and not wanted.read_only:
            raise InUse(f"volume {place.volume_id} is staged read-only, and cannot be published as {wanted.capability}")
        return volume

    def _look_at(self, target: Path, volume: StagedHere, entries: dict[Path, Publication]) -> AtTarget | None:
        mount = self._staged.mount_at(target)
        if not mount:
            return None
        return AtTarget(mount, self._mounts.block_number(mount) == volume.number, entries.get(target))

    def _take_back(self, place: StagePlace, target: Path, *, made: bool) -> None:
        """The first error is what the caller gets; this one is only logged."""
        try:
            if made:
                self._mounts.unmount(target)
                remove_target(target)
            _forget(place, target)
        except DriverError as second:
            log.warning("a failed publish could not be taken back", target=str(target), reason=str(second))


def pod_of(target: Path) -> str | None:
    """The uid of the pod that a target path of the kubelet belongs to, by where it has file systems and block devices."""
    parts = target.parts
    if "volumeDevices" in parts and "pods" not in parts:
        return parts[-1] if _POD.fullmatch(parts[-1]) else None
    return next((two for one, two in pairwise(parts) if one == "pods" and _POD.fullmatch(two)), None)


def _forget(place: StagePlace, target: Path) -> None:
    entries = stage_record.load_publications(place)
    if entries.pop(target, None):
        stage_record.save_publications(place, entries)


def _target_lock(target: Path) -> str:
    return f"target path {target}"


def _readability(read_only: bool) -> str:
    return "read-only" if read_only else "writable"
