"""The cluster's directory as a thing that one process at a time works on."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from csi_driver.dev.errors import DevMisuse
from csi_driver.dev.layout import LOCK

_LONGEST_PATH = 85  # below it lie the daemons' sockets, whose paths have at most 107 characters


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the directory, waiting for whoever does; it is made when missing. Raises DevMisuse when it is not ours."""
    if len(str(directory)) > _LONGEST_PATH:
        raise DevMisuse(f"{directory} is longer than {_LONGEST_PATH} characters: sockets below it could not be opened")
    while True:
        if directory.is_dir() and any(directory.iterdir()):
            refuse_foreign(directory)
        directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        with (directory / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_still_there(lock.fileno(), directory / LOCK):  # or else the one before us purged it
                yield
                return


def refuse_foreign(directory: Path) -> None:
    """Raises DevMisuse unless a development cluster was begun in this directory."""
    if not (directory / LOCK).is_file():
        raise DevMisuse(f"{directory} is not the directory of a development cluster")


def clear(directory: Path) -> None:
    """Remove all but the lock."""
    for entry in directory.iterdir():
        if entry.name != LOCK:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _is_still_there(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
