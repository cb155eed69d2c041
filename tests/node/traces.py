"""What each attacher leaves on a machine, how a test makes a device die, and how it is cleared away after a failed test."""

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from csi_driver.host import commands
from csi_driver.host.krbd_devices import KrbdDevices


class Traces(Protocol):
    """Of one bench."""

    def attached(self) -> list[str]:
        """Whatever stands for an attached image: one or more for each."""

    def per_image(self) -> int:
        """How many of them one image has."""

    def files(self) -> list[Path]:
        """In the run directory, without what stays by design."""

    def cut(self) -> None:
        """What is attached dies; its watch on the image is the caller's to end."""

    def force_clean(self) -> None:
        """After a failed test, what is mounted being gone: nothing stays."""


class FuseTraces:
    """Storage daemons and loop devices."""

    def __init__(self, run_directory: str) -> None:
        self._run = run_directory
        self._nameless_before = frozenset(device for device, file in _loops() if file == "/\n")

    def attached(self) -> list[str]:
        return [*map(str, self.daemons()), *self.loops()]

    def per_image(self) -> int:
        return 2

    def files(self) -> list[Path]:
        return list(Path(self._run).iterdir()) if Path(self._run).exists() else []

    def daemons(self) -> list[int]:
        """Process ids of the storage daemons of this bench; the dead ones have no command line."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes()
            except OSError:
                continue
            if words.startswith(b"qemu-storage-daemon") and self._run.encode() in words:
                found.append(int(path.parent.name))
        return found

    def loops(self) -> list[str]:
        """Also those whose file has lost its name since: nobody else makes such meanwhile."""
        return [
            device
            for device, file in _loops()
            if file.startswith(self._run) or (file == "/\n" and device not in self._nameless_before)
        ]

    def cut(self) -> None:
        (daemon,) = self.daemons()
        os.kill(daemon, signal.SIGKILL)

    def force_clean(self) -> None:
        for device in self.loops():
            commands.run(["losetup", "-d", device], timeout_s=20, ok=None)  # goes with its last mount
        for pid in self.daemons():
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGKILL)
        for target in Path(self._run).glob("*/disk"):
            commands.run(["umount", "-l", str(target)], timeout_s=20, ok=None)


class KrbdTraces:
    """Mappings of the kernel's client; in the guest nobody else has any."""

    def __init__(self, run_directory: str) -> None:
        self._run = run_directory

    def attached(self) -> list[str]:
        mappers = [str(path) for path in Path("/dev/mapper").glob("luks-rbd-*")]
        return [*(str(image.device.path) for image in KrbdDevices().mapped()), *mappers]

    def per_image(self) -> int:
        return 1

    def files(self) -> list[Path]:
        run = Path(self._run)
        return [path for path in run.iterdir() if path.suffix != ".lock"] if run.exists() else []

    def cut(self) -> None:
        """The blocklist does it."""

    def force_clean(self) -> None:
        for mapper in Path("/dev/mapper").glob("luks-rbd-*"):
            commands.run(["cryptsetup", "close", mapper.name], timeout_s=60, env={"DM_DISABLE_UDEV": "1"}, ok=None)
        for device in self.attached():
            argv = ["rbd", "device", "unmap", device, "--conf", "/dev/null", "--options", "noudev,force"]
            commands.run(argv, timeout_s=60, ok=None)


class NbdTraces:
    """NBD devices with a connection, and the programs behind them; in the guest nobody else has any."""

    def __init__(self, run_directory: str) -> None:
        self._run = run_directory

    def attached(self) -> list[str]:
        mappers = [str(path) for path in Path("/dev/mapper").glob("luks-rbd-*")]
        return [*self._devices(), *map(str, self.programs()), *mappers]

    def per_image(self) -> int:
        return 2

    def files(self) -> list[Path]:
        run = Path(self._run)
        return [path for path in run.iterdir() if path.suffix != ".lock"] if run.exists() else []

    def cut(self) -> None:
        (program,) = self.programs()
        os.kill(program, signal.SIGKILL)

    def force_clean(self) -> None:
        for mapper in Path("/dev/mapper").glob("luks-rbd-*"):
            commands.run(["cryptsetup", "close", mapper.name], timeout_s=60, env={"DM_DISABLE_UDEV": "1"}, ok=None)
        for device in self._devices():
            commands.run(["rbd-nbd", "unmap", device, "--conf", "/dev/null"], timeout_s=60, ok=None)
        for program in self.programs():
            os.kill(program, signal.SIGKILL)

    def _devices(self) -> list[str]:
        return [f"/dev/{path.parent.name}" for path in Path("/sys/block").glob("nbd*/pid")]

    def programs(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # ended just now
                if path.read_bytes().startswith(b"rbd-nbd\0"):
                    found.append(int(path.parent.name))
        return found


def traces(attacher_name: str, run_directory: str) -> Traces:
    kinds: dict[str, Callable[[str], Traces]] = {"fuse": FuseTraces, "krbd": KrbdTraces, "nbd": NbdTraces}
    return kinds[attacher_name](run_directory)


def _loops() -> list[tuple[str, str]]:
    """The loop devices in use, with the file behind each."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # detached just now
            found.append((f"/dev/{path.parent.parent.name}", path.read_text()))
    return found
