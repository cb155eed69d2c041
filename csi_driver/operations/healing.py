"""Devices whose program has died are served again, before the kernel gives up what waits on them.

That an attacher's device waits so long is the attacher's own matter (host/nbd_program.py). The programs are ours, or the Go
driver's, which die with the pod of its node plugin. A call that stages the volume again puts them right with its secrets;
nobody makes such a call by itself, so that a round looks for them with the credentials that the clusters file has.
"""

import threading
from collections.abc import Callable

import structlog

from csi_driver import tracing
from csi_driver.errors import Busy, DriverError
from csi_driver.host.api import Machine
from csi_driver.locks import KeyedLocks
from csi_driver.model import ImageAddress, StaticImage
from csi_driver.operations import mounters
from csi_driver.operations.stage_parts import Locator
from csi_driver.operations.stage_record import StageRecord
from csi_driver.operations.staged_volumes import StagedHere, StagedVolumes, volume_lock

log = structlog.get_logger(__name__)

_AT_ONCE = 8
"""A cluster that does not answer keeps its volumes' threads until its operations time out."""
_EVERY_S = 10.0
"""The kernel waits for 300 s, unless the volume's options say otherwise."""


def is_lost(machine: Machine, record: StageRecord) -> bool:
    """Whether the device is there, and waits. Of an encrypted volume it is the one below."""
    return mounters.by_name(machine.attachers, record.attacher).is_lost(record.attachment)


def serve_again(machine: Machine, record: StageRecord, address: ImageAddress) -> None:
    """Raises what Attacher.attach does."""
    attacher = mounters.by_name(machine.attachers, record.attacher)
    attacher.attach(record.attachment, address, record.map_options)
    log.info("a device that had lost its program is served again", volume=record.attachment.volume_id)


class Healing:
    """Looks for lost devices, and heals each on a thread of its own."""

    def __init__(self, machine: Machine, locator: Locator, locks: KeyedLocks) -> None:
        self._machine = machine
        self._locator = locator
        self._locks = locks
        self._staged = StagedVolumes(machine.mounts)
        self._guard = threading.Lock()
        self._at_work: set[str] = set()
        self._told: dict[str, str] = {}

    def look(self) -> None:
        """One round; does not wait for what it starts."""
        for stage in self._lost():
            with self._guard:
                if stage.place.volume_id in self._at_work or len(self._at_work) >= _AT_ONCE:
                    continue
                self._at_work.add(stage.place.volume_id)
            threading.Thread(target=self._heal, args=(stage,), name="healing", daemon=True).start()

    def _lost(self) -> list[StagedHere]:
        try:
            return [stage for stage in self._staged.all() if is_lost(self._machine, stage.record)]
        except (DriverError, OSError) as error:
            log.warning("the staged volumes cannot be looked through", reason=str(error))
            return []

    def _heal(self, stage: StagedHere) -> None:
        volume_id, record = stage.place.volume_id, stage.record
        tracing.begin(tracing.Call("healing", subject=volume_id))
        try:
            with self._locks.hold(volume_lock(volume_id)):
                if is_lost(self._machine, record):
                    serve_again(self._machine, record, self._address(volume_id, record))
            self._told.pop(volume_id, None)
        except Busy:
            """The call that works on it puts it right, or the next round."""
        except DriverError as error:
            self._tell(volume_id, str(error))
        finally:
            with self._guard:
                self._at_work.discard(volume_id)

    def _address(self, volume_id: str, record: StageRecord) -> ImageAddress:
        if record.cluster_id:
            image = StaticImage(record.cluster_id, record.attachment.pool, record.attachment.image)
            return self._locator.locate_static(image, None).address
        return self._locator.locate(volume_id, None).address

    def _tell(self, volume_id: str, reason: str) -> None:
        """Once for each reason: rounds are many."""
        if self._told.get(volume_id) != reason:
            self._told[volume_id] = reason
            log.warning("a device has lost its program and waits for another", volume=volume_id, reason=reason)


class Healer:
    """Rounds of healing, for as long as the node half runs; the first at its start."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="healer", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _watch(self) -> None:
        self._look()
        while not self._stopping.wait(_EVERY_S):
            self._look()
