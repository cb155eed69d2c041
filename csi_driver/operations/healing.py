"""Devices whose program has died are served again, before the kernel gives up what waits on them.

That an attacher's device waits is the attacher's own matter (host.api.Recovery). The programs are ours, or the Go driver's,
which die with the pod of its node plugin. A repeated stage puts its device right with its secrets; nobody need repeat it, so
that a round looks for lost devices with the credentials that the clusters file has. Nobody's lock is taken: a call that
has the volume's may be the one that waits.

Where there are no such credentials, or no such image any more, what waits fails when its time is over. Linux itself fails
what is asked from then on, but not what was on its way to the program that died, and an unmount would wait for that for ever.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from csi_driver import tracing
from csi_driver.addresses import ImageAddress, StaticImage
from csi_driver.errors import DriverError, Inconsistent, Rejected
from csi_driver.host.api import Machine, Recovery
from csi_driver.operations import mounters
from csi_driver.operations.stage_parts import Locator
from csi_driver.operations.stage_record import StageRecord
from csi_driver.operations.staged_volumes import StagedVolumes
from csi_driver.rounds import Rounds

log = structlog.get_logger(__name__)

_AT_ONCE = 8
"""A cluster that does not answer keeps its volumes' threads until its operations time out."""
_EVERY_S = 10.0
"""The kernel waits for 300 s, unless the volume's options say otherwise."""


def serve_lost(machine: Machine, record: StageRecord, address: Callable[[], ImageAddress]) -> None:
    """For a call that has credentials. Raises what asking for the address does, and Attacher.attach."""
    recovery = mounters.by_name(machine.attachers, record.attacher).recovery
    if recovery and recovery.is_lost(record.attachment):
        recovery.serve_again(record.attachment, address(), record.map_options)


@dataclass
class _Lost:
    """A lost device as the rounds know it."""

    record: StageRecord
    recovery: Recovery
    since: float = field(default_factory=time.monotonic)
    told: str = ""
    is_worked_on: bool = False


class Healing:
    """Looks for lost devices, and heals each on a thread of its own."""

    def __init__(self, machine: Machine, locator: Locator) -> None:
        self._machine = machine
        self._locator = locator
        self._staged = StagedVolumes(machine.mounts)
        self._lost: dict[str, _Lost] = {}
        """By volume id."""
        self.rounds = Rounds("healer", self._look)

    def _look(self) -> float:
        """Does not wait for what it starts."""
        try:
            found = self._find()
        except (DriverError, OSError) as error:
            log.warning("the staged volumes cannot be looked through", reason=str(error))
            return _EVERY_S
        self._lost = {volume_id: self._lost.get(volume_id, lost) for volume_id, lost in found.items()}
        for lost in self._lost.values():
            if not lost.is_worked_on and sum(one.is_worked_on for one in self._lost.values()) < _AT_ONCE:
                lost.is_worked_on = True
                threading.Thread(target=self._heal, args=(lost,), name="healing", daemon=True).start()
        return _EVERY_S

    def _find(self) -> dict[str, _Lost]:
        found = {}
        for recovery in filter(None, (one.recovery for one in self._machine.attachers)):
            for volume_id in recovery.lost_volumes():
                with suppress(Inconsistent):  # a record that cannot be read is told by the calls of its volume
                    for stage in self._staged.stages_of(volume_id):
                        if recovery.is_lost(stage.volume.record.attachment):
                            found[volume_id] = _Lost(stage.volume.record, recovery)
        return found

    def _heal(self, lost: _Lost) -> None:
        record, volume_id = lost.record, lost.record.attachment.volume_id
        tracing.begin(tracing.Call("healing", subject=volume_id))
        try:
            lost.recovery.serve_again(record.attachment, self._address(record), record.map_options)
            log.info("a device that had lost its program is served again", volume=volume_id)
            lost.since, lost.told = time.monotonic(), ""  # it may be lost again before a round has seen it whole
        except Rejected as final:
            _tell(lost, str(final))
            if time.monotonic() - lost.since > lost.recovery.patience_s(record.map_options):
                self._give_up(lost)
        except DriverError as error:
            _tell(lost, str(error))
        finally:
            lost.is_worked_on = False

    def _address(self, record: StageRecord) -> ImageAddress:
        attachment = record.attachment
        if record.cluster_id:
            image = StaticImage(record.cluster_id, attachment.pool, attachment.image)
            return self._locator.locate_static(image, None).address
        return self._locator.locate(attachment.volume_id, None).address

    def _give_up(self, lost: _Lost) -> None:
        attachment = lost.record.attachment
        log.warning("nobody serves a device: what waits on it fails", volume=attachment.volume_id)
        try:
            lost.recovery.give_up(attachment)
        except DriverError as error:
            _tell(lost, str(error))


def _tell(lost: _Lost, reason: str) -> None:
    """Once for each reason: rounds are many."""
    if lost.told != reason:
        lost.told = reason
        log.warning(
            "a device has lost its program and waits for another",
            volume=lost.record.attachment.volume_id,
            reason=reason,
        )
