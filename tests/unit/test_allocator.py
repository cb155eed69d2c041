"""That a process with many threads keeps its memory in few arenas, and gives back what is free there."""

import os
import subprocess
import sys

import pytest

THREADS_THAT_ALLOCATE = """
import ctypes, threading
from csi_driver.cli.allocator import keep_few_arenas
keep_few_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
all_there = threading.Barrier(16)
def allocate():
    libc.malloc(100_000)
    all_there.wait()
threads = [threading.Thread(target=allocate) for _ in range(16)]
for one in threads: one.start()
for one in threads: one.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.parametrize(("environment", "arenas"), [({}, 2), ({"MALLOC_ARENA_MAX": "4"}, 4)])
def test_threads_share_the_arenas(environment: dict[str, str], arenas: int) -> None:
    command = [sys.executable, "-c", THREADS_THAT_ALLOCATE]
    here = {key: value for key, value in os.environ.items() if key != "MALLOC_ARENA_MAX"}
    told = subprocess.run(command, env={**here, **environment}, capture_output=True, text=True, check=True)
    assert told.stdout.count("<heap nr=") == arenas


FREED_BELOW_WHAT_STAYS = """
import ctypes
from pathlib import Path
from csi_driver.cli import allocator
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20
chunks = [libc.malloc(100_000) for _ in range(1000)]
for chunk in chunks: ctypes.memset(chunk, 1, 100_000)
for chunk in chunks[:-1]: libc.free(chunk)
before = mib()
allocator.give_back()
print(before - mib())
"""


def test_what_is_free_in_an_arena_is_given_back() -> None:
    """Below an allocation that stays, glibc keeps it."""
    command = [sys.executable, "-c", FREED_BELOW_WHAT_STAYS]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(told.stdout) > 80
