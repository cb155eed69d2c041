"""How many arenas a process with many threads has, as glibc tells."""

import subprocess
import sys

import pytest

_PROGRAM = """
import ctypes, threading
from csi_driver.allocator import use_few_arenas
{first}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(17)
def allocate():
    libc.malloc(100_000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(16)]
for thread in threads:
    thread.start()
together.wait()
libc.malloc_stats()
"""


@pytest.mark.parametrize(("first", "is_few"), [("use_few_arenas()", True), ("", False)], ids=["few", "as glibc likes"])
def test_threads_share_two_arenas_once_it_is_asked_for(first: str, is_few: bool) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(first=first)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    arenas = ended.stderr.count("Arena ")
    assert (arenas <= 2) == is_few, ended.stderr
