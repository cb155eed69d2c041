"""A random history over a real Ceph, with two driver processes that die at random."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from csi_driver.dev.layout import DevCeph
from tests.fixtures.ceph import made_ceph

STEPS = int(os.environ.get("REAL_STEPS", "300"))
SEED = int(os.environ.get("REAL_SEED", "1"))
_LIFE_S = max(1200, 4 * STEPS)
_LIVES = 3
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)


@pytest.mark.timeout(_LIVES * _LIFE_S)
def test_no_history_on_a_real_ceph_breaks_a_rule(release: str | None, pytestconfig: pytest.Config) -> None:
    """The history's process says so. One that its own librbd crashes, no driver's, is lived again on another Ceph.

    REAL_SEED and REAL_STEPS name another history and a longer one. The moments are the machine's.
    """
    print(f"\nREAL_SEED={SEED} REAL_STEPS={STEPS}")  # noqa: T201 - the test's report
    for _ in range(_LIVES):
        with made_ceph(release) as ceph:
            code, told = _live(ceph)
        if -code not in _CRASHES:
            break
        with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            sys.stderr.write(f"\nthe test's own librbd: {signal.Signals(-code).name}\n{told}\n")
    assert code == 0, told
    print(told)  # noqa: T201


def _live(ceph: DevCeph) -> tuple[int, str]:
    """The exit code and what was printed: of a crash, the faulthandler's stacks.

    No process is left: drivers are of the group, too. Their directories go with the Ceph's.
    """
    command = (sys.executable, "-m", "tests.histories.life", str(ceph.directory), str(SEED), str(STEPS))
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1", "TMPDIR": str(ceph.directory.parent)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as life:
        try:
            told, _ = life.communicate(timeout=_LIFE_S)
        except subprocess.TimeoutExpired:
            life.send_signal(signal.SIGABRT)  # its stacks tell where it hangs
            told, _ = life.communicate()
            pytest.fail(f"not over after {_LIFE_S} s\n{told}")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(life.pid, signal.SIGKILL)
    return life.returncode, told
