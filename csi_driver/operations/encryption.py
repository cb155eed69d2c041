"""Encrypted volumes on a node: LUKS2 between the attached image and what is mounted, so that whoever uses an attacher sees
the open device.

Persisted in the image's metadata, as the Go driver has it: `rbd.csi.ceph.com/encrypted` is `encryptionPrepared` from the
volume's create on, and `encrypted` once it was staged; its key stands beside it (volume_keys.py). So a `prepared` volume was
never handed out: what a crash left on it between luksFormat and mkfs is nobody's data. The device mapper's name is
`luks-rbd-<volume id>`.

What is found on the device            state prepared          state encrypted, or none
  blank                                luksFormat              refuse: there was data once
  LUKS                                 open                    open; a wrong passphrase changes nothing
  LUKS that does not open, formatted   luksFormat again        refuse
  in this boot
  anything else                        refuse                  refuse
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from csi_driver.addresses import ImageAddress
from csi_driver.errors import InUse, Unauthenticated
from csi_driver.host.api import AS_CRYPTSETUP_CHOOSES, Attacher, Attachment, Content, Device, LuksForm, Machine
from csi_driver.model import ImageTraits
from csi_driver.tracing import step

METADATA_KEY = "rbd.csi.ceph.com/encrypted"
PREPARED, ENCRYPTED = "encryptionPrepared", "encrypted"
LUKS = "crypto_LUKS"
"""In blkid's words."""


def state_of(metadata: Mapping[str, str]) -> str:
    """Of an image; empty where there is none. Older volumes of the Go driver have the key with a dot before it."""
    return metadata.get(METADATA_KEY) or metadata.get(f".{METADATA_KEY}", "")


@dataclass(frozen=True)
class LuksSecret:
    """What opens a volume. is_unused: nobody was ever given its content. is_cut_short: a luksFormat of this boot was."""

    passphrase: str = field(repr=False)
    is_unused: bool = False
    is_cut_short: bool = False
    form: LuksForm = AS_CRYPTSETUP_CHOOSES
    on_format: Callable[[], None] = field(default=lambda: None, repr=False)
    """Called before luksFormat, for the record."""


def mapper_name(volume_id: str) -> str:
    return f"luks-rbd-{volume_id}"


class EncryptedAttacher:
    """An attacher whose device is the open LUKS device on another one's (host.api.Attacher)."""

    def __init__(self, inner: Attacher, machine: Machine, secret: LuksSecret | None) -> None:
        self._inner = inner
        self._machine = machine
        self._secret = secret
        self.name = inner.name
        self.holds_limits = inner.holds_limits
        self.recovery = inner.recovery

    def unavailable_reason(self) -> str | None:
        return self._inner.unavailable_reason() or self._machine.luks.unavailable_reason()

    def refusal(self, traits: ImageTraits) -> str | None:
        return self._inner.refusal(traits)

    def attach(self, attachment: Attachment, address: ImageAddress, options: Sequence[str]) -> Device:
        assert self._secret, "only a stage attaches"
        if reason := self._machine.luks.unavailable_reason():
            raise InUse(f"this node cannot open encrypted volumes: {reason}")
        name = mapper_name(attachment.volume_id)
        below = self._inner.find(attachment)
        if (found := self._machine.luks.find(name)) and (below is None or below.number != found.below):
            self._machine.luks.close(name)
        below = self._inner.attach(attachment, address, options)
        if found := self._machine.luks.find(name):
            return found.device
        if self._needs_format(below, attachment):
            self._format(below, attachment)
        try:
            return self._open(below, attachment)
        except Unauthenticated:
            if not (self._secret.is_cut_short and self._secret.is_unused):
                raise
            self._format(below, attachment)
            return self._open(below, attachment)

    def find(self, attachment: Attachment) -> Device | None:
        below = self._inner.find(attachment)
        found = self._machine.luks.find(mapper_name(attachment.volume_id))
        return found.device if below and found and found.below == below.number else None

    def why_dead(self, attachment: Attachment) -> str | None:
        return self._inner.why_dead(attachment)

    def refresh_size(self, attachment: Attachment, at_least: int) -> Device:
        self._inner.refresh_size(attachment, at_least)
        if self.find(attachment) is None:
            raise InUse(f"image {attachment.spec} is not open here any more: unstage and stage the volume again")
        with step("luks.grow", attachment.spec):
            return self._machine.luks.grow(mapper_name(attachment.volume_id))

    def detach(self, attachment: Attachment, options: Sequence[str]) -> None:
        with step("luks.close", attachment.spec):
            self._machine.luks.close(mapper_name(attachment.volume_id))
        self._inner.detach(attachment, options)

    def _open(self, below: Device, attachment: Attachment) -> Device:
        assert self._secret
        name = mapper_name(attachment.volume_id)
        with step("luks.open", attachment.spec):
            return self._machine.luks.open(below, name, self._secret.passphrase, read_only=attachment.read_only)

    def _format(self, below: Device, attachment: Attachment) -> None:
        assert self._secret
        if attachment.read_only:
            raise InUse("the volume is not encrypted yet, and cannot be while it is attached read-only")
        self._secret.on_format()
        with step("luks.format", attachment.spec):
            self._machine.luks.format(below.path, self._secret.passphrase, self._secret.form)

    def _needs_format(self, below: Device, attachment: Attachment) -> bool:
        assert self._secret
        found = self._machine.filesystems.identify(below.path)
        if found.content is Content.FOREIGN and found.name == LUKS:
            return False
        if found.content is Content.BLANK:
            if self._secret.is_unused:
                return True
            raise InUse(f"image {attachment.spec} should be encrypted and is blank; it is left as it is")
        if found.content is Content.UNKNOWN and self._secret.is_cut_short and self._secret.is_unused:
            return True
        what = found.name or "data that nothing explains"
        raise InUse(f"image {attachment.spec} should be encrypted and holds {what}; it is left as it is")
