"""What is known of NBD devices without asking them: sysfs for the devices, /proc for the programs that serve them.

A device and its program belong together by the cookie that both were given, the volume's id: the process id in sysfs is that
of the program that made the connection, which a later one may have followed (`rbd-nbd attach`).
(Linux: Documentation/ABI/testing/sysfs-block-nbd; rbd-nbd(8))
"""

from dataclasses import dataclass
from pathlib import Path

from csi_driver.host.api import Attachment, Device

PROGRAM = "rbd-nbd"


@dataclass(frozen=True)
class ConnectedDevice:
    """An NBD device with a connection, or one that waits for a program to follow a dead one. pid: 0 where sysfs has none."""

    device: Device
    cookie: str
    pid: int
    is_read_only: bool


@dataclass(frozen=True)
class Server:
    """A running rbd-nbd that maps or attaches an image."""

    pid: int
    spec: str
    cookie: str
    is_read_only: bool

    def serves(self, attachment: Attachment) -> bool:
        return (self.spec, self.is_read_only) == (attachment.spec, attachment.read_only)


class NbdDevices:
    """The machine's. sys, proc: copies of parts of them in the unit tests."""

    def __init__(self, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> None:
        self._sys = sys
        self._proc = proc

    def is_there(self) -> bool:
        return (self._sys / "module/nbd").exists()

    def connected(self, cookie: str) -> list[ConnectedDevice]:
        """By their numbers. Kernels before 5.14 tell no cookie: there the program's process id tells whose a device is."""
        pids = {server.pid for server in self.servers(cookie)}
        blocks = sorted((self._sys / "block").glob("nbd[0-9]*"), key=lambda path: int(path.name.removeprefix("nbd")))
        found = [one for one in map(self._read, blocks) if one]
        return [one for one in found if one.cookie == cookie or (not one.cookie and one.pid in pids)]

    def servers(self, cookie: str) -> list[Server]:
        """A program that starts is there twice for a moment: it, and the one that it leaves behind."""
        found = []
        for entry in self._proc.glob("[0-9]*"):
            words = self._words(entry)
            server = _parse(int(entry.name), words) if words else None
            if server and server.cookie == cookie:
                found.append(server)
        return sorted(found, key=lambda server: server.pid)

    def _words(self, entry: Path) -> list[str]:
        try:
            return (entry / "cmdline").read_text(encoding="utf-8", errors="surrogateescape").split("\0")[:-1]
        except OSError:
            return []

    def _read(self, block: Path) -> ConnectedDevice | None:
        cookie, pid = _text(block / "backend"), _text(block / "pid")
        number, sectors = _text(block / "dev"), _text(block / "size")
        if not number or not (cookie or pid):
            return None
        device = Device(Path("/dev") / block.name, number, int(sectors or 0) * 512)
        return ConnectedDevice(device, cookie, int(pid or 0), is_read_only=_text(block / "ro") == "1")


def _parse(pid: int, words: list[str]) -> Server | None:
    """From the arguments that nbd.py gives: `rbd-nbd map|attach SPEC … --cookie COOKIE …`."""
    if Path(words[0]).name != PROGRAM or words[1:2] not in (["map"], ["attach"]) or "--cookie" not in words[:-1]:
        return None
    return Server(pid, words[2], words[words.index("--cookie") + 1], is_read_only="--read-only" in words)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
