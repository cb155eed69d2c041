"""Which attacher a volume gets, and which of its options are meant for it. Decides; attaches nothing.

The parameter `mounter` uses the names that existing volumes carry; missing, the choice is krbd, then nbd, then fuse.
`mapOptions` and `unmapOptions` have the form `krbd:a,b=1;nbd:c;fuse:rbd_cache=false`; a part without a name is krbd's.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from csi_driver.errors import InUse, InvalidRequest
from csi_driver.host.api import Attacher, Device, Machine
from csi_driver.model import ImageTraits
from csi_driver.operations.encryption import EncryptedAttacher, LuksSecret
from csi_driver.operations.stage_record import StageRecord

NAMES = {"rbd": "krbd", "krbd": "krbd", "rbd-nbd": "nbd", "nbd": "nbd", "fuse": "fuse"}
NO_TRAITS = ImageTraits()
AUTOMATIC_ORDER = ("krbd", "nbd", "fuse")

_PART = re.compile(r"(?:([A-Za-z-]+):)?(.*)", re.DOTALL)


def parse_mounter(text: str) -> str | None:
    """The attacher's name; None for the automatic choice."""
    if not text:
        return None
    if text not in NAMES:
        raise InvalidRequest(f"mounter: {text!r} is not known; allowed are {', '.join(NAMES)}")
    return NAMES[text]


def parse_options(field: str, text: str) -> dict[str, tuple[str, ...]]:
    """mapOptions or unmapOptions: the words for each attacher."""
    options: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        match = _PART.fullmatch(part)
        assert match
        mounter = match[1] or "krbd"
        if mounter not in NAMES:
            raise InvalidRequest(f"{field}: {mounter!r} is not a mounter; allowed are {', '.join(NAMES)}")
        words = tuple(word.strip() for word in match[2].split(",") if word.strip())
        options[NAMES[mounter]] = options.get(NAMES[mounter], ()) + words
    return options


def by_name(attachers: Sequence[Attacher], name: str) -> Attacher:
    """The attacher of a record. Raises InUse when this build of the driver does not have it."""
    for attacher in attachers:
        if attacher.name == name:
            return attacher
    raise InUse(f"the volume was attached by {name!r}, which this driver cannot do")


def of_record(machine: Machine, record: StageRecord, secret: LuksSecret | None = None) -> Attacher:
    """What attached the volume of a record, its encryption included. secret: for a stage alone."""
    attacher = by_name(machine.attachers, record.attacher)
    return EncryptedAttacher(attacher, machine, secret) if record.is_encrypted else attacher


def below_encryption(machine: Machine, record: StageRecord, device: Device) -> Device:
    """The device that is the image: what an encrypted volume's `device` lies on, which is as much larger as its header is.

    The Go driver's records name it.
    """
    below = by_name(machine.attachers, record.attacher).find(record.attachment) if record.is_encrypted else None
    return below or device


@dataclass(frozen=True)
class Choice:
    """The attacher, and why not those that would have come before it; empty when it was the first."""

    attacher: Attacher
    passed_over: tuple[str, ...] = ()


def choose(
    attachers: Sequence[Attacher], wanted: str | None, *, try_others: bool, traits: ImageTraits = NO_TRAITS
) -> Choice:
    """Raises InUse that names each attacher asked for and why this node cannot do it."""
    known: Mapping[str, Attacher] = {attacher.name: attacher for attacher in attachers}
    order = [wanted] if wanted else []
    if try_others or not wanted:
        order += [name for name in AUTOMATIC_ORDER if name != wanted]
    reasons: list[str] = []
    for name in order:
        reason = "this driver does not have it"
        if name in known:
            reason = known[name].unavailable_reason() or known[name].refusal(traits) or ""
            if not reason and name != wanted and str(traits.limits) and not known[name].holds_limits:
                reason = "the volume has limits of I/O, which follow a change at once with librbd alone"
        if not reason:
            return Choice(known[name], tuple(reasons))
        reasons.append(f"{name}: {reason}")
    remedy = "" if try_others or not wanted else "; set tryOtherMounters to true to let this node choose another"
    raise InUse(f"this node cannot attach the volume with {'; '.join(reasons)}{remedy}")
