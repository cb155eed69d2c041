"""Development clusters: made, found again, side by side, ended; each in its own directory."""

import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from csi_driver.dev import cluster, daemons
from csi_driver.dev.errors import DevMisuse
from csi_driver.dev.layout import LOCK, DevCeph, DevOptions


def rbd_csi(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = (sys.executable, "-m", "csi_driver", "dev", *arguments)
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


def pids(ceph: DevCeph) -> dict[str, int]:
    return {one.daemon.name: one.pid for one in daemons.running(ceph.conf)}


def as_user(ceph: DevCeph, user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = ("rbd", "-c", str(ceph.conf), "--id", user, *arguments)
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCeph]:
    """A second cluster, in a directory where an `up` was interrupted after its first steps."""
    directory = tmp_path_factory.mktemp("other")
    (directory / LOCK).touch()
    (directory / "ceph.conf").write_text("[global]\n")
    (directory / "mon").mkdir()
    try:
        yield cluster.up(DevOptions(directory))
    finally:
        cluster.down(directory, purge=True)


def test_up_again_leaves_a_running_cluster_alone(ceph_dev: DevCeph) -> None:
    before = pids(ceph_dev)
    again = rbd_csi("up", "--dir", str(ceph_dev.directory))
    assert again.returncode == 0, again.stderr
    assert "it runs" in again.stdout
    assert pids(ceph_dev) == before
    assert sorted(before) == ["mgr.x", "mon.a", "osd.0"]


def test_up_with_other_options_is_refused(ceph_dev: DevCeph) -> None:
    refused = rbd_csi("up", "--dir", str(ceph_dev.directory), "--osds", "3")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "osds = 1, not 3" in refused.stderr


def test_status_names_every_daemon_and_the_health(ceph_dev: DevCeph) -> None:
    status = rbd_csi("status", "--dir", str(ceph_dev.directory))
    assert status.returncode == 0, status.stderr
    for name, pid in pids(ceph_dev).items():
        assert [name, str(pid), "running", ceph_dev.address] in [line.split() for line in status.stdout.splitlines()]
    assert "health: HEALTH_" in status.stdout


def test_status_without_a_cluster_ends_with_1(tmp_path: Path) -> None:
    status = rbd_csi("status", "--dir", str(tmp_path / "none"))
    assert status.returncode == 1
    assert "no cluster in" in status.stderr


@pytest.mark.parametrize("command", ["up", "down"])
def test_a_directory_of_something_else_is_left_alone(tmp_path: Path, command: str) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    refused = rbd_csi(command, "--dir", str(tmp_path), *(["--purge"] if command == "down" else []))
    assert refused.returncode == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_impossible_options_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(DevMisuse, match="OSDs"):
        cluster.up(DevOptions(tmp_path / "ceph", osds=0))
    assert not (tmp_path / "ceph").exists()


def test_the_driver_gets_no_admin_key_and_nobody_else_may_read_its_keys(ceph_dev: DevCeph) -> None:
    secret = [ceph_dev.config_json, ceph_dev.secrets_yaml, ceph_dev.directory / "secrets-ns.yaml", ceph_dev.keyring]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
    given = "".join(path.read_text() for path in ceph_dev.directory.glob("*.[jy]*"))
    assert ceph_dev.keys["provisioner"] in given
    assert ceph_dev.keys["admin"] not in given


def test_the_user_of_the_namespace_reaches_nothing_else(ceph_dev: DevCeph) -> None:
    inside = as_user(ceph_dev, "ns", "create", "--size", "1M", "--data-pool", "data", "second/ns/dev-test")
    assert inside.returncode == 0, inside.stderr
    assert as_user(ceph_dev, "ns", "rm", "--no-progress", "second/ns/dev-test").returncode == 0
    for pool in ("rbd", "second"):
        outside = as_user(ceph_dev, "ns", "create", "--size", "1M", f"{pool}/dev-test")
        assert "Operation not permitted" in outside.stderr


def test_a_half_made_cluster_is_made_anew_beside_another(ceph_dev: DevCeph, other: DevCeph) -> None:
    assert other.address != ceph_dev.address
    assert other.ceph("fsid").strip() == other.fsid
    assert ceph_dev.ceph("fsid").strip() == ceph_dev.fsid


def test_up_starts_a_daemon_that_died_and_keeps_what_was_stored(other: DevCeph) -> None:
    other.rbd("create", "--size", "1M", "rbd/kept")
    before = pids(other)
    os.kill(before["osd.0"], signal.SIGKILL)
    _wait_until_gone(before["osd.0"])
    assert rbd_csi("status", "--dir", str(other.directory)).returncode == 1

    cluster.up(DevOptions(other.directory))
    after = pids(other)
    assert after["mon.a"] == before["mon.a"]
    assert after["osd.0"] != before["osd.0"]
    assert other.rbd("ls", "rbd").split() == ["kept"]


def test_down_ends_its_own_daemons_only(ceph_dev: DevCeph, other: DevCeph) -> None:
    """Last of this file: the other cluster ends here. A program that only mentions its conf is none of its daemons."""
    before = pids(ceph_dev)
    bystander = subprocess.Popen(["tail", "-f", str(other.conf)], stdout=subprocess.DEVNULL)
    try:
        down = rbd_csi("down", "--dir", str(other.directory))
        assert sorted(down.stdout.split()[::2]) == ["mgr.x:", "mon.a:", "osd.0:"]
        assert pids(other) == {}
        assert other.conf.exists()
        assert pids(ceph_dev) == before
        assert bystander.poll() is None
        assert rbd_csi("down", "--dir", str(other.directory)).stdout == "nothing ran\n"
    finally:
        bystander.kill()
        bystander.wait()


def _wait_until_gone(pid: int) -> None:
    """A pidfd becomes readable when its process ends."""
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        assert select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)
