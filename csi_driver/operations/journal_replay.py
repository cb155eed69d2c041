"""A file system that is to be mounted for reading, and whose journal must be replayed before: a copy of one that was mounted.

The kernel mounts such a file system from a read-only device not at all, and with its journal left out it shows what was
never so. So one node attaches the image for writing for that moment, has the journal replayed, and attaches it read-only
again. That the kernel refuses the mount is the mark that this is still to be done. Of several nodes that stage the volume
at once one has the lease and the others answer Busy; whoever gets it later finds the mount possible. A paused holder is cut
off by the image's exclusive lock when another one takes it; and a journal that is replayed twice gives the same.
"""

from collections.abc import Callable
from dataclasses import replace

import structlog

from csi_driver.host.api import Device, Machine, MountRefused
from csi_driver.model import StagedVolume
from csi_driver.operations import mounters
from csi_driver.operations.stage_parts import Locator, StageRequest
from csi_driver.operations.stage_record import StageRecord
from csi_driver.tracing import step

log = structlog.get_logger(__name__)


class JournalReplay:
    """On one node, in the middle of a stage."""

    def __init__(self, machine: Machine, locator: Locator) -> None:
        self._machine = machine
        self._locator = locator

    def mount(
        self,
        request: StageRequest,
        record: StageRecord,
        volume: StagedVolume,
        fs_type: str,
        mount: Callable[[Device], None],
    ) -> None:
        """Replay, and `mount` a device that is attached for reading. Raises MountRefused, InUse, Busy.

        The one that was refused goes first: what it has read is older than the replay.
        """
        attacher = mounters.of_record(self._machine, record, request.secret)
        options = request.options.map_options.get(attacher.name, ())
        reading, writing = record.attachment, replace(record.attachment, read_only=False)
        attacher.detach(reading, ())
        with self._locator.only_writer(reading.volume_id, request.credentials):
            try:
                mount(attacher.attach(reading, volume.address, options))
            except MountRefused:
                attacher.detach(reading, ())
            else:
                return  # another node has replayed it meanwhile
            with step("node.replay", reading.volume_id):
                device = attacher.attach(writing, volume.address, options)
                try:
                    self._replay(request, device, fs_type)
                finally:
                    attacher.detach(writing, ())
            log.info("the journal of a file system was replayed", volume=reading.volume_id, fs_type=fs_type)
        mount(attacher.attach(reading, volume.address, options))

    def _replay(self, request: StageRequest, device: Device, fs_type: str) -> None:
        """ext4's tool does it alone; xfs replays when it is mounted."""
        self._machine.filesystems.check(device.path, fs_type)
        if fs_type == "xfs":
            target = request.place.volume_path
            self._machine.mounts.mount(device.path, target, fs_type, ("nouuid",))
            self._machine.mounts.unmount(target)
