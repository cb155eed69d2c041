"""A test that nothing in Python can end is ended, with the stacks of its threads."""

import subprocess
import sys
from pathlib import Path

_HUNG = """
import ctypes, signal
import pytest

@pytest.mark.timeout(1)
def test_hung():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    ctypes.CDLL(None).sleep(60)
"""
_RUN = """
import sys
import pytest
from tests.fixtures import hung_tests

hung_tests._AFTER_S = 0.5
pytest.main([sys.argv[1], "-p", "tests.fixtures.hung_tests", "-p", "no:cacheprovider", "-c", "/dev/null"])
print("it came back")
"""


def test_a_test_that_hangs_below_python_ends_its_process_and_is_named(tmp_path: Path) -> None:
    hung = tmp_path / "test_hung.py"
    hung.write_text(_HUNG)
    run = subprocess.run(
        [sys.executable, "-c", _RUN, str(hung)], capture_output=True, text=True, timeout=50, check=False
    )
    assert run.returncode == 1, run
    assert "it came back" not in run.stdout
    assert "in test_hung" in run.stderr
