"""`rbd-csi volume …` as a process of its own, as an operator runs it."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.stopping import await_stop

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Ended:
    """What a command came to. code: negative when a signal ended it."""

    code: int
    out: str
    err: str


class Running:
    """A command under way."""

    def __init__(self, clusters: Path, *arguments: str, failpoints: str = "") -> None:
        command = [sys.executable, "-m", "csi_driver", "volume", *arguments, "--clusters", str(clusters)]
        environment = {**os.environ, "RBD_CSI_FAILPOINTS": failpoints}
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def await_pause(self) -> None:
        """Until it has stopped itself, as a fail point makes it."""
        await_stop(self._process.pid, TIMEOUT_S)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> Ended:
        try:
            out, err = self._process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        return Ended(self._process.returncode, out, err)


def run(clusters: Path, *arguments: str, failpoints: str = "") -> Ended:
    return Running(clusters, *arguments, failpoints=failpoints).end()
