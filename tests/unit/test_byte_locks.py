"""Locks on a byte for a name: one holder at a time, programs that outlive their starter among them."""

import subprocess
from pathlib import Path

import pytest

from csi_driver.errors import Busy
from csi_driver.host import byte_locks


def test_a_name_has_one_holder_and_other_names_are_free(tmp_path: Path) -> None:
    file = tmp_path / "run" / "locks"
    with byte_locks.held(file, "image a", timeout_s=1):
        with byte_locks.held(file, "image b", timeout_s=1):
            pass
        with pytest.raises(Busy, match="image a"), byte_locks.held(file, "image a", timeout_s=0.1):
            pass
    with byte_locks.held(file, "image a", timeout_s=1):
        pass


def test_a_program_that_was_given_the_descriptor_holds_it_on(tmp_path: Path) -> None:
    file = tmp_path / "locks"
    with byte_locks.held(file, "image", timeout_s=1) as lock:
        program = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    with program:
        with pytest.raises(Busy), byte_locks.held(file, "image", timeout_s=0.1):
            pass
        program.kill()
    with byte_locks.held(file, "image", timeout_s=10):
        pass
