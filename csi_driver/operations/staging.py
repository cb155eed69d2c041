"""NodeStageVolume and NodeUnstageVolume: from an image to a mounted file system or a bound block device, and back.

Order of a stage, each step found done or finished by a repeated call: record, attach, (format, check, grow), (note of use),
mount. Order back: unmount, path, detach, record. A stage that ends in a final error takes back what it did; one that ends
otherwise leaves its record, with which the next stage goes on or the next unstage clears away. See stage_record.py for what
is persisted. The record's device name is for the reader: a device is used only when its attacher proves it is the image.
"""

from dataclasses import replace
from enum import Enum, auto

import structlog

from csi_driver.errors import Conflict, DriverError, Inconsistent, InUse, Rejected
from csi_driver.host.api import Attacher, Attachment, Device, Machine, Mount, MountRefused
from csi_driver.locks import KeyedLocks
from csi_driver.model import Capability, StagedVolume
from csi_driver.operations import contents, healing, mounters, stage_record
from csi_driver.operations.contents import Treatment, Wish
from csi_driver.operations.encryption import LuksSecret
from csi_driver.operations.journal_replay import JournalReplay
from csi_driver.operations.stage_parts import Locator, StageRequest
from csi_driver.operations.stage_record import StagePlace, StageRecord
from csi_driver.operations.staged_volumes import StagedVolumes, volume_lock
from csi_driver.operations.target_paths import make_directory, make_target, refuse_links, remove_target
from csi_driver.operations.volume_keys import VolumeKeys
from csi_driver.tracing import step

log = structlog.get_logger(__name__)

_ALWAYS_MOUNTED_WITH = {"ext4": ("_netdev",), "xfs": ("_netdev", "nouuid")}


class StageStep(Enum):
    NOTHING = auto()  # staged, and its device is alive
    BUILD = auto()  # nothing is there, or a stage with the same arguments stopped half way: begin or go on
    REBUILD = auto()  # clear away first: half done with other arguments, or its device died or is another's


def decide_stage(
    wanted: Capability,
    record: StageRecord | None,
    mount: Mount | None,
    device: Device | None,
    *,
    read_only: bool = False,
) -> StageStep:
    """device: proven to be the record's image, else None · read_only: published so, whatever the capability allows.

    Raises Conflict (spec: ALREADY_EXISTS), InUse.
    """
    if record is None:
        if mount:
            raise InUse(f"{mount.target} is a mount that no stage of this driver made")
        return StageStep.BUILD
    reads_only = read_only or wanted.mode.is_read_only
    same = record.capability is None or (record.capability == wanted and record.attachment.read_only == reads_only)
    if not mount:
        return StageStep.BUILD if same else StageStep.REBUILD
    if not same:
        was, asked = (", read-only" if one else "" for one in (record.attachment.read_only, reads_only))
        raise Conflict(
            f"the volume is staged at {mount.target.parent} as {record.capability}{was}, not as {wanted}{asked}"
        )
    return StageStep.NOTHING if device else StageStep.REBUILD


class Staging:
    """Stages and unstages volumes; one call per volume at a time."""

    def __init__(self, machine: Machine, locator: Locator, locks: KeyedLocks, keys: VolumeKeys) -> None:
        self._machine = machine
        self._locator = locator
        self._locks = locks
        self._keys = keys
        self._staged = StagedVolumes(machine.mounts)
        self._replay = JournalReplay(machine, locator)

    def stage(self, request: StageRequest) -> None:
        place = request.place
        refuse_links(place.volume_path)
        if begun := stage_record.load(place):
            healing.serve_lost(self._machine, begun, lambda: self._locate(request).address)
        with self._locks.hold(volume_lock(place.volume_id)):
            record = stage_record.load(place)
            mount = self._staged.mount_at(place.volume_path)
            todo = decide_stage(
                request.capability, record, mount, self._device_of(record, mount), read_only=request.read_only
            )
            if todo is StageStep.NOTHING:
                return
            volume = self._locate(request)
            wish = request.options
            attacher = self._choose(request, volume)
            if record and (todo is StageStep.REBUILD or record.attacher != attacher.name):
                log.warning(
                    "a stage is cleared away before it is made anew", volume=place.volume_id, device=record.device
                )
                self._clear(place, record)
                record = None
            formatting = record.formatting if record else ""
            planned = StageRecord(
                _attachment(volume, request.capability, read_only=request.read_only),
                attacher.name,
                request.capability,
                unmap_options=wish.unmap_options,
                formatting=formatting,
                is_encrypted=wish.is_encrypted,
                io_max="" if attacher.holds_limits else str(volume.traits.limits),
                map_options=wish.map_options.get(attacher.name, ()),
                cluster_id=request.static.cluster_id if request.static else "",
            )
            self._refuse_second_stage(planned, place)
            self._await_exclusive_use(request, planned, volume)
            if wish.is_encrypted:
                request = self._with_secret(request, planned)
            self._build_or_take_back(request, planned, volume)

    def _with_secret(self, request: StageRequest, record: StageRecord) -> StageRequest:
        """Raises InvalidRequest when there is no passphrase, Unauthenticated, Inconsistent."""
        place = request.place
        begun = replace(record, formatting=self._machine.boot_id)
        found = self._locator.encryption(place.volume_id, request.static, request.credentials)
        secret = LuksSecret(
            self._keys.open(found.key, request.options.kms_id, request.passphrase),
            is_unused=found.is_unused,
            is_cut_short=record.formatting == self._machine.boot_id,
            form=request.options.luks_form,
            on_format=lambda: stage_record.save(place, begun),
        )
        return replace(request, secret=secret)

    def _locate(self, request: StageRequest) -> StagedVolume:
        if request.static:
            return self._locator.locate_static(request.static, request.credentials)
        return self._locator.locate(request.place.volume_id, request.credentials)

    def unstage(self, place: StagePlace) -> None:
        with self._locks.hold(volume_lock(place.volume_id)):
            refuse_links(place.volume_path)
            record = stage_record.load(place)
            mount = self._staged.mount_at(place.volume_path)
            if record is None:
                if mount:
                    raise InUse(f"{mount.target} is a mount that no stage of this driver made")
                return
            if mount:
                number = self._machine.mounts.block_number(mount)
                if published := self._staged.publications(place, number):
                    raise InUse(f"volume {place.volume_id} is still published at {', '.join(map(str, published))}")
            self._clear(place, record)

    def _choose(self, request: StageRequest, volume: StagedVolume) -> Attacher:
        wish, volume_id = request.options, request.place.volume_id
        choice = mounters.choose(
            self._machine.attachers, wish.mounter, try_others=wish.try_other_mounters, traits=volume.traits
        )
        log.info(
            "attacher chosen", volume=volume_id, attacher=choice.attacher.name, because="; ".join(choice.passed_over)
        )
        return choice.attacher

    def _device_of(self, record: StageRecord | None, mount: Mount | None) -> Device | None:
        """The device of a mounted stage, if it is alive, this image's, and what is mounted."""
        if not record or not mount:
            return None
        attacher = mounters.of_record(self._machine, record)
        device = attacher.find(record.attachment)
        return device if device and device.number == self._machine.mounts.block_number(mount) else None

    def _await_exclusive_use(self, request: StageRequest, planned: StageRecord, volume: StagedVolume) -> None:
        """Of a volume that one node alone may write. On this node it is the attachment itself that has it open."""
        mode = request.capability.mode
        if not volume.is_open or mode.is_multi_node or planned.attachment.read_only:
            return
        if mounters.of_record(self._machine, planned).find(planned.attachment) is None:
            with step("node.await_closed", request.place.volume_id):
                self._locator.await_closed(request.place.volume_id, request.static, request.credentials)

    def _refuse_second_stage(self, planned: StageRecord, place: StagePlace) -> None:
        """One volume has one staging path on a node (CSI, NodeStageVolumeRequest): two could not be taken back singly."""
        attacher = mounters.of_record(self._machine, planned)
        device = attacher.find(planned.attachment)
        for owner in self._staged.owners(device.number) if device else ():
            if owner.place.volume_id == place.volume_id and owner.place != place:
                raise InUse(f"volume {place.volume_id} is staged at {owner.place.path} already: unstage it there first")

    def _build_or_take_back(self, request: StageRequest, record: StageRecord, volume: StagedVolume) -> None:
        make_directory(request.place.path)
        try:
            self._build(request, record, volume)
        except (Rejected, Inconsistent):
            try:
                self._clear(request.place, record)
            except DriverError as second:
                log.warning(
                    "a failed stage could not be taken back", volume=record.attachment.volume_id, reason=str(second)
                )
            raise

    def _build(self, request: StageRequest, record: StageRecord, volume: StagedVolume) -> None:
        place = request.place
        with step("node.record", place.volume_id):
            stage_record.save(place, record)
        attacher = mounters.of_record(self._machine, record, request.secret)
        with step("node.attach", place.volume_id):
            device = attacher.attach(record.attachment, volume.address, record.map_options)
        with step("node.record_device", place.volume_id):
            record = replace(record, device=str(mounters.below_encryption(self._machine, record, device).path))
            stage_record.save(place, record)
        if request.capability.is_block:
            make_target(place.volume_path, is_file=True)
            self._note_use(request)
            with step("node.bind", place.volume_id):
                self._machine.mounts.bind(device.path, place.volume_path, read_only=False)
        else:
            self._mount(request, record, device, volume)

    def _note_use(self, request: StageRequest) -> None:
        """Before anybody can have it: a stage that is repeated after the mount has nothing left to do."""
        if request.secret and request.secret.is_unused:
            with step("node.note_use", request.place.volume_id):
                self._locator.note_use(request.place.volume_id, request.credentials)

    def _mount(self, request: StageRequest, record: StageRecord, device: Device, volume: StagedVolume) -> None:
        place, wish, read_only = request.place, request.options, record.attachment.read_only
        never_used = request.secret is not None and request.secret.is_unused
        is_cut_short = record.formatting == self._machine.boot_id or never_used
        wanted = Wish(
            request.capability.fs_type or wish.fs_type, read_only, is_cut_short, may_format=not request.static
        )
        mounted = next((mount for mount in self._machine.mounts.table() if mount.device == device.number), None)
        fs_type = mounted.fs_type if mounted else self._prepare(request, record, device, wanted)
        make_target(place.volume_path, is_file=False)
        self._note_use(request)
        options = [*_ALWAYS_MOUNTED_WITH[fs_type], *request.capability.mount_flags, *(["ro"] if read_only else [])]

        def mount(shown: Device) -> None:
            with step("node.mount", place.volume_id):
                self._machine.mounts.mount(shown.path, place.volume_path, fs_type, options)

        try:
            try:
                mount(device)
            except MountRefused:
                if not read_only or mounted or request.static:
                    raise
                self._replay.mount(request, record, volume, fs_type, mount)
        except MountRefused as refused:
            raise InUse(self._why_refused(record, fs_type, str(refused))) from refused
        if fs_type == "xfs" and "ro" not in options:
            self._machine.filesystems.grow_mounted(device.path, place.volume_path, fs_type)

    def _prepare(self, request: StageRequest, record: StageRecord, device: Device, wish: Wish) -> str:
        """A file system that is ready to be mounted; its type. Persists that a format has begun, and that it ended."""
        filesystems, place = self._machine.filesystems, request.place
        treatment, fs_type = contents.decide(filesystems.identify(device.path), wish)
        if treatment is Treatment.MOUNT:
            if not wish.read_only:
                with step("node.check", place.volume_id):
                    filesystems.check(device.path, fs_type)
                    filesystems.grow_unmounted(device.path, fs_type)
            return fs_type
        stage_record.save(place, replace(record, formatting=self._machine.boot_id))
        with step("node.format", place.volume_id):
            overwrite = treatment is Treatment.FORMAT_OVER
            filesystems.format(device.path, fs_type, request.options.mkfs_options, overwrite=overwrite)
        stage_record.save(place, replace(record, formatting=""))
        return fs_type

    def _why_refused(self, record: StageRecord, fs_type: str, said: str) -> str:
        device = mounters.of_record(self._machine, record).find(record.attachment)
        why = self._machine.filesystems.explain_refused_mount(device.path, fs_type) if device else ""
        volume = record.attachment.volume_id
        return f"the {fs_type} file system of volume {volume} cannot be mounted: {said}{'; ' if why else ''}{why}"

    def _clear(self, place: StagePlace, record: StageRecord) -> None:
        """Nothing of the stage is left. The record goes last: until then a repeated call finds what remains."""
        attacher = mounters.of_record(self._machine, record)
        with step("node.unmount", place.volume_id):
            self._machine.mounts.unmount(place.volume_path)
            remove_target(place.volume_path)
        with step("node.detach", place.volume_id):
            options = mounters.parse_options("unmapOptions", record.unmap_options).get(attacher.name, ())
            attacher.detach(record.attachment, options)
        with step("node.forget", place.volume_id):
            stage_record.remove(place)


def _attachment(volume: StagedVolume, capability: Capability, *, read_only: bool) -> Attachment:
    address = volume.address
    return Attachment(
        volume_id=volume.handle,
        pool=address.pool,
        rados_namespace=address.rados_namespace,
        image=address.image,
        read_only=read_only or capability.mode.is_read_only,
    )
