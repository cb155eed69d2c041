"""The driver of a demonstration: `rbd-csi serve` as a process of its own, which a later run finds again by its pid file."""

import os
import select
import signal
import sys
import time
from pathlib import Path

from csi_driver.demo.client import Client
from csi_driver.demo.place import DemoError, Place
from csi_driver.host.commands import spawn

_READY_S = 30.0
_END_S = 30.0
_LAST_LINES = 3


class Driver:
    """One process at a time behind the place's socket; both halves."""

    def __init__(self, place: Place, clusters: Path) -> None:
        self._place = place
        self._endpoint = f"unix://{place.socket}"
        flags = ("--endpoint", self._endpoint, "--node-id", "demo", "--clusters", str(clusters))
        self._argv = (sys.executable, "-m", "csi_driver", "serve", *flags)
        self.client = Client(place.socket)

    @property
    def pid(self) -> int | None:
        """The process that the pid file names, if it still is this driver."""
        try:
            pid = int(self._place.pid_file.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self._endpoint) in words else None

    def start(self) -> int:
        """Its pid, once Probe answers ready. Raises DemoError with the log's last lines."""
        process = spawn(self._argv, output=self._place.log)
        self._place.pid_file.write_text(f"{process.pid}\n")
        deadline = time.monotonic() + _READY_S
        while not self.client.is_ready(timeout_s=1.0):
            if process.code() is not None:
                raise DemoError(f"the driver ended with code {process.code()} at its start: {self._last_words()}")
            if time.monotonic() > deadline:
                raise DemoError(f"the driver is not ready after {_READY_S:g} s: {self._last_words()}")
            time.sleep(0.02)
        return process.pid

    def end(self, chosen: signal.Signals = signal.SIGTERM) -> None:
        """Fine when it does not run. Raises DemoError when it does not end."""
        pid = self.pid
        if pid is None:
            return
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(pidfd, chosen)
            if not select.select([pidfd], [], [], _END_S)[0]:
                raise DemoError(f"the driver (pid {pid}) has not ended {_END_S:g} s after {chosen.name}")
        except ProcessLookupError:
            return
        finally:
            os.close(pidfd)

    def _last_words(self) -> str:
        return " / ".join(self._place.log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
