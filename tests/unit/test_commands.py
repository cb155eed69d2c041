"""Programs that do not end: the call does, and keeps nothing open of them."""

import time
from pathlib import Path

import pytest

from csi_driver.host import commands


def test_of_a_program_that_does_not_end_no_pipe_stays_open() -> None:
    """As of one in uninterruptible sleep: here another session's process, which is not killed with it, has its output."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    began = time.monotonic()
    with pytest.raises(commands.CommandTimeout, match=r"0\.2 s"):
        commands.run(["sh", "-c", "setsid sleep 8 & wait"], timeout_s=0.2, stdin="more than a pipe holds" * 5000)
    assert time.monotonic() - began < 7
    assert len(list(Path("/proc/self/fd").iterdir())) == before
