"""What is known of NBD devices without asking them: sysfs for the devices, /proc for the programs that serve them.

A device belongs to the program that made its connection, whose process id sysfs has, or to one that took it on later and
names it; what a program serves, its arguments say. A device that has lost its program is known by its cookie, `backend`.
(Linux: Documentation/ABI/testing/sysfs-block-nbd; rbd-nbd(8))
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from csi_driver.host.api import Attachment, Device

PROGRAM = "rbd-nbd"


def cookie_of(attachment: Attachment) -> str:
    """By which the kernel knows the image of a device: the volume's id, as with the Go driver, where it is the only one such.

    An image that is a volume without a journal has its name for an id, and others may have it in other pools.
    """
    return attachment.spec if attachment.volume_id == attachment.image else attachment.volume_id


def volume_of(cookie: str) -> str:
    """The volume's id of `cookie_of`."""
    return cookie.rpartition("/")[2]


@dataclass(frozen=True)
class ConnectedDevice:
    """An NBD device with a connection. pid: of the program that made it, which may have ended · cookie: empty for none."""

    device: Device
    pid: int
    cookie: str
    is_read_only: bool


@dataclass(frozen=True)
class Server:
    """A running rbd-nbd that maps or attaches an image. device: its path, where it was named."""

    pid: int
    spec: str
    is_read_only: bool
    device: str = ""


class NbdDevices:
    """The machine's. sys, proc: copies of parts of them in the unit tests."""

    def __init__(self, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> None:
        self._sys = sys
        self._proc = proc

    def is_there(self) -> bool:
        return (self._sys / "module/nbd").exists()

    def connected(self, attachment: Attachment) -> list[ConnectedDevice]:
        """Of living programs, by their numbers."""
        servers = self.servers(attachment)
        pids, named = {one.pid for one in servers}, {one.device for one in servers}
        return [one for one in self._all() if one.pid in pids or str(one.device.path) in named]

    def lost(self, attachment: Attachment) -> list[ConnectedDevice]:
        """What waits for another program: the kernel has it connected, and nobody serves the image."""
        if self.servers(attachment):
            return []
        return [one for one in self._all() if one.cookie == cookie_of(attachment)]

    def lost_volumes(self) -> list[str]:
        """Ids of volumes whose devices wait, whatever their images: by cookies, which tell them."""
        waiting = [one for one in self._all() if one.cookie and not self._server(one.pid)]
        if not waiting:
            return []
        served = {one.device for one in self._servers()}
        return [volume_of(one.cookie) for one in waiting if str(one.device.path) not in served]

    def _all(self) -> list[ConnectedDevice]:
        blocks = sorted((self._sys / "block").glob("nbd[0-9]*"), key=lambda path: int(path.name.removeprefix("nbd")))
        return [one for one in map(self._read, blocks) if one]

    def servers(self, attachment: Attachment) -> list[Server]:
        """Of the image, also with other rights. One that starts is there twice for a moment."""
        found = [one for one in self._servers() if one.spec == attachment.spec]
        return sorted(found, key=lambda server: server.pid)

    def _servers(self) -> Iterator[Server]:
        for entry in self._proc.glob("[0-9]*"):
            if server := self._server(int(entry.name)):
                yield server

    def _server(self, pid: int) -> Server | None:
        try:
            words = (self._proc / str(pid) / "cmdline").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
        return _parse(pid, words.split("\0")[:-1])

    def _read(self, block: Path) -> ConnectedDevice | None:
        pid, number, sectors, cookie = (_text(block / name) for name in ("pid", "dev", "size", "backend"))
        is_read_only = _text(block / "ro") == "1"
        if not pid or not number:
            return None
        device = Device(Path("/dev") / block.name, number, int(sectors or 0) * 512)
        return ConnectedDevice(device, int(pid), cookie, is_read_only)


def _parse(pid: int, words: list[str]) -> Server | None:
    """From the arguments that nbd_program.py gives, and the Go driver, which has its options first."""
    if not words or Path(words[0]).name != PROGRAM:
        return None
    specs = [spec for verb, spec in pairwise(words) if verb in ("map", "attach")]
    if not specs:
        return None
    named = [path for option, path in pairwise(words) if option == "--device"]
    return Server(pid, specs[0], is_read_only="--read-only" in words, device="".join(named[:1]))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
