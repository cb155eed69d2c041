"""The demonstration as a user starts it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from csi_driver.demo.place import Place
from csi_driver.dev.inventory import Place as Inventoried
from csi_driver.dev.inventory import inventory
from csi_driver.dev.layout import DevCeph
from csi_driver.failpoints import VARIABLE
from csi_driver.host.mounts import LocalMounts

_RUN_S = 120


def _start(ceph: DevCeph, *flags: str, failpoints: str = "") -> subprocess.Popen[str]:
    argv = (sys.executable, "-m", "csi_driver", "demo", "--dir", str(ceph.directory), *flags)
    environment = {**os.environ, VARIABLE: failpoints}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def _run(ceph: DevCeph, *flags: str, failpoints: str = "") -> tuple[int, str]:
    process = _start(ceph, *flags, failpoints=failpoints)
    said, _ = process.communicate(timeout=_RUN_S)
    return process.returncode, said


def _has_left(ceph: DevCeph) -> list[str]:
    place = Place.beside(ceph.directory)
    mounts = [f"mount {one.target}" for one in LocalMounts().table() if one.target.is_relative_to(place.directory)]
    files = [f"file {path.name}" for path in place.directory.iterdir() if path.name not in ("lock", "serve.log")]
    return mounts + files


def test_a_run_ends_well_leaves_nothing_and_can_be_repeated(ceph_dev: DevCeph) -> None:
    before = inventory(ceph_dev, Inventoried("rbd"))
    for _ in range(2):
        code, said = _run(ceph_dev)
        assert code == 0, said
        assert "as written" in said
        assert not _has_left(ceph_dev)
        assert inventory(ceph_dev, Inventoried("rbd")) <= before


def test_what_was_kept_is_cleared_away_by_end(ceph_dev: DevCeph) -> None:
    code, said = _run(ceph_dev, "--keep")
    assert code == 0, said
    assert "demo --end" in said
    assert Place.beside(ceph_dev.directory).target.is_mount()
    code, said = _run(ceph_dev, "--end")
    assert code == 0, said
    assert not _has_left(ceph_dev)


def test_an_unfinished_call_is_repeated_and_the_line_says_so(ceph_dev: DevCeph) -> None:
    code, said = _run(ceph_dev, failpoints="journal.complete:before=error:5")
    assert code == 0, said
    assert "(asked 2 times)" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_run_that_is_interrupted_clears_away_what_it_made(ceph_dev: DevCeph, number: signal.Signals) -> None:
    process = _start(ceph_dev)
    place = Place.beside(ceph_dev.directory)
    deadline = time.monotonic() + _RUN_S
    while not place.target.is_mount():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    said, _ = process.communicate(timeout=_RUN_S)
    assert process.returncode == 130, said
    assert not _has_left(ceph_dev)


def test_a_driver_that_does_not_start_is_one_clear_line(ceph_dev: DevCeph) -> None:
    code, said = _run(ceph_dev, failpoints="nonsense")
    assert code == 1
    assert "rbd-csi: the driver ended with code 2 at its start" in said
    assert "nonsense" in said
    assert not _has_left(ceph_dev)
