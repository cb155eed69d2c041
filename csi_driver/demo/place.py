"""The directory of a demonstration: beside its cluster's, used again by the next run.

  lock            held by the run at work
  socket/csi.sock the driver's socket, alone in its directory (CSI spec, Protocol)
  serve.log       what the driver writes, of the last run; it stays
  serve.pid       the driver's process
  volume          the volume's id; empty from the first request for it to the answer
  staging, pod    where the volume is staged and published
  <copy>/         the same of each copy of the volume: volume, staging, pod; `snapshot/volume` is the snapshot's id
What a run that was killed or told to keep all has left is found here and cleared away by the next one.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from csi_driver.host.mounts import LocalMounts

RUN_DIRECTORIES = Path("/run/rbd-csi")


class DemoError(Exception):
    """Something is not as it must be; the message says what was expected."""


@dataclass(frozen=True)
class Place:
    """One demonstration's paths."""

    directory: Path

    @classmethod
    def beside(cls, cluster: Path) -> "Place":
        return cls(cluster.with_name(f"{cluster.name}-demo"))

    @property
    def socket(self) -> Path:
        return self.directory / "socket" / "csi.sock"

    @property
    def log(self) -> Path:
        return self.directory / "serve.log"

    @property
    def pid_file(self) -> Path:
        return self.directory / "serve.pid"

    @property
    def volume_file(self) -> Path:
        return self.directory / "volume"

    @property
    def staging(self) -> Path:
        return self.directory / "staging"

    @property
    def target(self) -> Path:
        """Where the pod sees the volume; its parent is the orchestrator's (CSI spec, NodePublishVolume)."""
        return self.directory / "pod" / "data"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the directory for one run. Raises DemoError when another run has it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DemoError(f"another demo is at work in {self.directory}") from None
            yield

    def of_copy(self, name: str) -> "Place":
        return Place(self.directory / name)

    def prepare(self) -> None:
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        self.prepare_paths()

    def prepare_paths(self) -> None:
        for directory in (self.staging, self.target.parent):
            directory.mkdir(parents=True, exist_ok=True)

    def remove_empty(self) -> None:
        """The directories of a run that has ended. Whatever is still in one is left, and makes it stay."""
        for file in (self.volume_file, self.pid_file):
            file.unlink(missing_ok=True)
        for directory in (self.socket.parent, self.target, self.target.parent, self.staging):
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()

    def left_on_node(self, volume_id: str) -> list[str]:
        """Mounts, daemons and loop devices of the volume, and files of the driver."""
        mounts = [one.target for one in LocalMounts().table() if one.target.is_relative_to(self.directory)]
        found = [f"mount {target}" for target in mounts]
        daemons = RUN_DIRECTORIES.glob("*/*/image.json")
        found += [f"daemon of {one.parent}" for one in daemons if json.loads(one.read_text())["volume"] == volume_id]
        found += [f"file {path}" for path in (self.socket, self.pid_file) if os.path.lexists(path)]
        found += [f"file {path}" for path in self.staging.glob("*")]
        return found
