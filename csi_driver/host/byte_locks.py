"""Locks on one byte of a file, for names: held by this process and by the programs that it hands the descriptor to.

So that a program that outlives its killed process still keeps others off. Nothing is to be cleaned up: the file stays, empty.
"""

import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from csi_driver.errors import Busy

_POLL_S = 0.05
_FLOCK = "hhqqi"  # struct flock of fcntl(2): type, whence, start, length, pid


@contextmanager
def held(file: Path, name: str, *, timeout_s: float) -> Iterator[int]:
    """The descriptor, to be passed to programs. Raises Busy after the time, when somebody else still has the name's lock."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, digest, 1, 0)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + timeout_s
        while not _taken(descriptor, wanted):
            if time.monotonic() > deadline:
                raise Busy(f"another process, or a program left by one, still works on {name}; repeat the call")
            time.sleep(_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


def _taken(descriptor: int, wanted: bytes) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
    except (BlockingIOError, PermissionError):
        return False
    return True
