"""Looks for secrets where others may read them: process lists, environments, files, what the driver says.

A `Hunt` watches /proc all the time, and every program that the driver runs through PATH goes past a recorder, which notes its
arguments and environment before it becomes that program: however short it lives.
"""

import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = (
    *("qemu-storage-daemon", "cryptsetup", "losetup", "mount", "umount", "blkid", "rbd", "modprobe", "findmnt"),
    *("mkfs.ext4", "mkfs.xfs", "e2fsck", "fsck", "xfs_repair", "resize2fs", "xfs_growfs", "fstrim"),
)
_EVERY_S = 0.02
_LOOK_WITHIN_S = 60.0
_LARGEST_FILE = 64 << 20

_RECORDER = """\
#!/bin/bash
cat /proc/$$/cmdline /proc/$$/environ > "{records}/{name}.$$.$RANDOM"
exec -a {name} {program} "$@"
"""


@dataclass
class Hunt:
    """For these secrets; `directory` holds the recorders and what they recorded."""

    directory: Path
    secrets: Sequence[str]
    found: set[str] = field(default_factory=set)
    looks: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._words = [secret.encode() for secret in self.secrets]
        (self.directory / "bin").mkdir(parents=True)
        self._records.mkdir()
        for name in PROGRAMS:
            if program := shutil.which(name):
                recorder = self.directory / "bin" / name
                recorder.write_text(_RECORDER.format(records=self._records, name=name, program=program))
                recorder.chmod(0o755)

    @property
    def _records(self) -> Path:
        return self.directory / "records"

    @property
    def path(self) -> str:
        """PATH for the driver."""
        return f"{self.directory / 'bin'}:{os.environ['PATH']}"

    def programs(self) -> set[str]:
        """Those that were run, and looked at."""
        return {record.name.rsplit(".", 2)[0] for record in self._records.iterdir()}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Looks at every process of the machine, over and over."""
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        try:
            yield
        finally:
            self._ended.set()
            watcher.join()
            self.look_at_files(self._records)

    def await_look(self) -> None:
        """One look at all processes, from its beginning to its end."""
        until, deadline = self.looks + 2, time.monotonic() + _LOOK_WITHIN_S
        while self.looks < until:
            assert time.monotonic() < deadline, "the watch does not look"
            time.sleep(_EVERY_S)

    def look_at_files(self, *below: Path) -> int:
        """How many there were."""
        files = [path for one in below for path in one.rglob("*") if path.is_file() and not path.is_symlink()]
        small = [path for path in files if path.stat().st_size <= _LARGEST_FILE]
        for path in small:
            self.look_at(path.read_bytes(), str(path))
        return len(small)

    def look_at(self, text: bytes, where: str) -> None:
        self.found |= {f"secret {number} in {where}" for number, word in enumerate(self._words) if word in text}

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self.looks += 1
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        text = (process / name).read_bytes()
                    except OSError:  # it has ended
                        continue
                    self.look_at(text, f"{process / name}")
