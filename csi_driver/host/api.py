"""All that the driver wants from the machine it runs on: read this first.

The real parts are mounts.py (mount table, mount, bind), filesystems.py (probe, format, check, grow, measure) and one file
per way to attach an image, each an `Attacher`: krbd.py, nbd.py, fuse.py.

Errors of the whole seam, besides those named at each method:
  DeviceTrouble  a program, daemon or device did not do what was asked, or not in time; the next call may go on
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

from csi_driver.addresses import ImageAddress
from csi_driver.model import ImageTraits


@dataclass(frozen=True)
class Attachment:
    """One image on this node, as its records name it: enough to find it again without credentials.

    volume_id is the key: one volume is attached at most once on a node.
    """

    volume_id: str
    pool: str
    rados_namespace: str
    image: str
    read_only: bool

    @property
    def spec(self) -> str:
        """The image in the notation of the rbd tool: pool[/namespace]/image."""
        return "/".join(part for part in (self.pool, self.rados_namespace, self.image) if part)


@dataclass(frozen=True)
class Device:
    """A block device of this machine; `number` is major:minor, as the mount table shows it."""

    path: Path
    number: str
    size_bytes: int


class Attacher(Protocol):
    """One way to make a block device of an image. Every method may be called again after a crash at any point of it.

    What an attacher starts outlives this process and its cgroup, and is found again by `find`.
    """

    @property
    def name(self) -> str:
        """As records and messages name it: krbd, nbd, fuse."""

    @property
    def holds_limits(self) -> bool:
        """Whether an image's limits of I/O, which are among its settings, are held by what attaches it."""

    @property
    def recovery(self) -> "Recovery | None":
        """Of devices that outlive what serves them; None where they die with it, or the kernel serves them."""

    def unavailable_reason(self) -> str | None:
        """Why this machine cannot attach this way; None when it can."""

    def refusal(self, traits: ImageTraits) -> str | None:
        """Why it cannot attach an image with these traits on this machine; None when it can."""

    def attach(self, attachment: Attachment, address: ImageAddress, options: Sequence[str]) -> Device:
        """The device of the image: the one that is there already, else a new one. Finishes what a crash left half done.

        options: the words of `mapOptions` for this attacher. Raises InvalidRequest for options it does not know,
        NotFound (no such image or pool), Unauthenticated, AccessDenied, ClusterUnavailable, ClusterTimeout.
        """

    def find(self, attachment: Attachment) -> Device | None:
        """The device, when it is there, whole, alive and proven to be this image; anything less is None."""

    def why_dead(self, attachment: Attachment) -> str | None:
        """Of what `find` does not answer: why its device, which is still there, is of no use; None when it is gone."""

    def refresh_size(self, attachment: Attachment, at_least: int) -> Device:
        """The device once it shows the size that the image has now. Needs no credentials. Raises InUse when not attached.

        at_least: bytes that the image has by now, as far as the caller knows; 0: nothing is known. Where the kernel hears of
        a new size by itself alone, this is what is waited for, in bounds.
        """

    def detach(self, attachment: Attachment, options: Sequence[str]) -> None:
        """Nothing of the attachment is left afterwards; OK when nothing was there.

        options: the words of `unmapOptions`. Raises DeviceTrouble while something still has the device open.
        """


class Recovery(Protocol):
    """Lost devices: they are there, and what is read and written waits, since the program that served them has died.

    Whoever holds a volume may be one that waits, an unmount above all. So these need no lock but the attacher's own.
    """

    def lost_volumes(self) -> Sequence[str]:
        """Ids of volumes that may have a lost device. Asked every few seconds: where all is well it reads little."""

    def is_lost(self, attachment: Attachment) -> bool: ...

    def serve_again(self, attachment: Attachment, address: ImageAddress, options: Sequence[str]) -> None:
        """What waits goes on; OK when the device is not lost. Attaches nothing anew. Raises as Attacher.attach."""

    def patience_s(self, options: Sequence[str]) -> float:
        """How long what waits is meant to."""

    def give_up(self, attachment: Attachment) -> None:
        """What waits fails, and so does what comes after it; OK when the device is not lost."""


@dataclass(frozen=True)
class Mount:
    """One entry of the mount table. `device` is major:minor of the file system, `root` the part of it that is mounted."""

    device: str
    root: str
    target: Path
    fs_type: str
    is_read_only: bool


class Mounts(Protocol):
    """The mount table of this process, and the ways to change it. Paths are absolute and hold no symbolic links."""

    def table(self) -> list[Mount]:
        """All mounts, the later ones on top of the earlier. Touches no mounted file system."""

    def block_number(self, mount: Mount) -> str:
        """major:minor of the block device behind a mount: of its file system, or of the device file that is bound."""

    def device_size_bytes(self, number: str) -> int:
        """Size of a block device by its number, without opening it. Raises NotFound."""

    def mount(self, device: Path, target: Path, fs_type: str, options: Sequence[str]) -> None:
        """Raises MountRefused when the kernel refuses."""

    def bind(self, source: Path, target: Path, *, read_only: bool) -> None:
        """Mounts source at target; with an own read-only flag, whatever the source's is. Finishes a half-done one."""

    def unmount(self, target: Path) -> None:
        """Nothing is mounted at target afterwards. Raises DeviceTrouble while it is in use."""


class MountRefused(Exception):
    """The kernel did not mount the file system; the text is what mount(8) said."""


class Content(Enum):
    """What a look at a device can find."""

    BLANK = auto()  # no signature, and zeros where file systems, partition tables and data begin
    FILE_SYSTEM = auto()  # one file system, complete
    UNFINISHED = auto()  # the superblock of a mkfs that was cut short: nothing was ever stored in it
    FOREIGN = auto()  # a partition table, LVM, LUKS, several signatures …
    UNKNOWN = auto()  # no signature, but not zeros


@dataclass(frozen=True)
class Finding:
    """What a device holds; `name` says it in blkid's words."""

    content: Content
    name: str = ""


@dataclass(frozen=True)
class Usage:
    """How full a volume is. A block volume has only total_bytes."""

    total_bytes: int
    used_bytes: int = 0
    available_bytes: int = 0
    total_inodes: int = 0
    used_inodes: int = 0
    available_inodes: int = 0


class Filesystems(Protocol):
    """File systems on block devices. fs_type is `ext4` or `xfs`."""

    def identify(self, device: Path) -> Finding: ...

    def format(self, device: Path, fs_type: str, options: Sequence[str], *, overwrite: bool) -> None:
        """The caller has made sure that nothing is lost. options replace the defaults when there are any.

        Raises InvalidRequest when mkfs does not accept the options or the size.
        """

    def check(self, device: Path, fs_type: str) -> None:
        """Repairs what can be repaired safely, before a mount for writing. Raises InUse when a person has to decide."""

    def explain_refused_mount(self, device: Path, fs_type: str) -> str:
        """What is known about a file system that the kernel does not mount, for the message."""

    def grow_unmounted(self, device: Path, fs_type: str) -> None:
        """Grows to the device where that is done before the mount (ext4)."""

    def grow_mounted(self, device: Path, target: Path, fs_type: str) -> None:
        """Grows to the device while mounted. Raises InUse when this process may not, and says what it lacks."""

    def probe_device(self, device: Path) -> None:
        """Reads the first bytes, past all caches. Raises DeviceTrouble when that fails or does not end in seconds."""

    def probe_mounted(self, path: Path) -> None:
        """Looks into the root directory of the file system mounted at path. Raises DeviceTrouble, likewise."""

    def trim(self, device: Path | None, target: Path, *, timeout_s: float) -> int:
        """Tells the device what the file system mounted at target does not use; its bytes. Looks first whether it answers.

        Leaves no thread on a device that hangs: this process can end. Raises DeviceTrouble when it hangs, knows no discard,
        or needs longer; what was trimmed by then is.
        """

    def usage(self, path: Path) -> Usage:
        """Of the file system mounted at path; answers within seconds, also when the device hangs (DeviceTrouble)."""


@dataclass(frozen=True)
class OpenLuks:
    """An open LUKS device; `below` is major:minor of the device that it lies on."""

    device: Device
    below: str


@dataclass(frozen=True)
class LuksForm:
    """How a device is encrypted. cipher: in dm-crypt's words · sector_bytes; what is not said, cryptsetup chooses."""

    cipher: str = ""
    sector_bytes: int = 0


AS_CRYPTSETUP_CHOOSES = LuksForm()


class Luks(Protocol):
    """LUKS2 devices, by their names in the device mapper."""

    def unavailable_reason(self) -> str | None:
        """Why this machine cannot open such devices; None when it can."""

    def format(self, device: Path, passphrase: str, form: LuksForm) -> None:
        """A new header, and with it a new key: whatever was there is lost. The caller has made sure that this is nothing."""

    def open(self, device: Device, name: str, passphrase: str, *, read_only: bool) -> Device:
        """Raises Unauthenticated when the passphrase does not open it."""

    def find(self, name: str) -> OpenLuks | None: ...

    def grow(self, name: str) -> Device:
        """Takes over the size of the device below."""

    def close(self, name: str) -> None:
        """OK when it is not open. Raises DeviceTrouble while it is in use."""


class PodLimits(Protocol):
    """Limits of what a pod's processes may do on one block device."""

    def unavailable_reason(self) -> str | None:
        """Why this machine cannot hold such limits; None when it can."""

    def hold(self, pod: str, number: str, limits: str) -> None:
        """From now on, for as long as there is the pod. pod: its uid · number: major:minor · limits: as `io.max` has them.

        Raises DeviceTrouble, also while the pod is not known here yet.
        """


@dataclass(frozen=True)
class Machine:
    """The parts of this machine that the node half works with. The first attacher that can is the automatic choice."""

    attachers: Sequence[Attacher]
    mounts: Mounts
    filesystems: Filesystems
    luks: Luks
    limits: PodLimits
    boot_id: str
