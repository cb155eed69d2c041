"""What is known of NBD devices without asking them: sysfs for the devices, /proc for the programs that serve them.

A device belongs to the program that made its connection, whose process id sysfs has; what that serves, its arguments say.
(Linux: Documentation/ABI/testing/sysfs-block-nbd; rbd-nbd(8))
"""

from dataclasses import dataclass
from pathlib import Path

from csi_driver.host.api import Attachment, Device

PROGRAM = "rbd-nbd"


@dataclass(frozen=True)
class ConnectedDevice:
    """An NBD device that a program has connected. pid: of the program."""

    device: Device
    pid: int


@dataclass(frozen=True)
class Server:
    """A running rbd-nbd that maps or attaches an image."""

    pid: int
    spec: str
    is_read_only: bool


class NbdDevices:
    """The machine's. sys, proc: copies of parts of them in the unit tests."""

    def __init__(self, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> None:
        self._sys = sys
        self._proc = proc

    def is_there(self) -> bool:
        return (self._sys / "module/nbd").exists()

    def connected(self, attachment: Attachment) -> list[ConnectedDevice]:
        """Of living programs, by their numbers."""
        pids = {server.pid for server in self.servers(attachment)}
        blocks = sorted((self._sys / "block").glob("nbd[0-9]*"), key=lambda path: int(path.name.removeprefix("nbd")))
        found = [one for one in map(self._read, blocks) if one]
        return [one for one in found if one.pid in pids]

    def servers(self, attachment: Attachment) -> list[Server]:
        """Of the image, also with other rights. One that starts is there twice for a moment."""
        found = []
        for entry in self._proc.glob("[0-9]*"):
            words = self._words(entry)
            server = _parse(int(entry.name), words) if words else None
            if server and server.spec == attachment.spec:
                found.append(server)
        return sorted(found, key=lambda server: server.pid)

    def _words(self, entry: Path) -> list[str]:
        try:
            return (entry / "cmdline").read_text(encoding="utf-8", errors="surrogateescape").split("\0")[:-1]
        except OSError:
            return []

    def _read(self, block: Path) -> ConnectedDevice | None:
        pid, number, sectors = (_text(block / name) for name in ("pid", "dev", "size"))
        if not pid or not number:
            return None
        return ConnectedDevice(Device(Path("/dev") / block.name, number, int(sectors or 0) * 512), int(pid))


def _parse(pid: int, words: list[str]) -> Server | None:
    """From the arguments that nbd.py gives, and the Go driver: `rbd-nbd map|attach SPEC …`."""
    if Path(words[0]).name != PROGRAM or words[1:2] not in (["map"], ["attach"]) or not words[2:]:
        return None
    return Server(pid, words[2], is_read_only="--read-only" in words)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
