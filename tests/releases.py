"""`make test-releases`: the suites of copies and of the seam to Ceph against newer releases, each in two ways.

First this machine's librbd against the release's daemons, then all of it inside the release's root directory: its daemons,
its librbd and its Python. What Python needs is put beside the root's own packages as wheels, chosen from outside for its
version, so that nothing in the root needs an index or a compiler.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from csi_driver.dev.layout import project
from csi_driver.dev.programs import Programs
from csi_driver.dev.release import SUITES, make_root, programs

_TESTS = (
    "tests/ceph",
    "tests/controller/test_create.py",
    "tests/controller/test_delete_and_expand.py",
    "tests/controller/test_copies.py",
    "tests/controller/test_copies_format_1.py",
    "tests/controller/test_copy_crashes.py",
    "tests/controller/test_flatten.py",
    "tests/controller/test_groups.py",
    "tests/controller/test_modify.py",
    "tests/controller/test_changed_blocks.py",
)
_OTHERWISE = (
    # a watch never outlives its client there: of 100 killed clients none left one
    "tests/ceph/test_watched_images.py::test_a_watch_that_outlives_its_client_is_found_out",
    "tests/ceph/test_watched_images.py::test_a_removal_that_such_a_watch_cut_short_goes_on",
    # 20.2 gives a new user a key that 16.2's librados cannot read
    "tests/ceph/test_cluster.py::test_a_user_of_one_pool_is_denied_in_another",
    # asked for users that it does not know, 20.2 often does not answer in time: now this one, now that one
    "tests/ceph/test_cluster.py::test_a_strange_user_is_an_unknown_one",
    # 20.2 warns of AUTH_INSECURE_KEYS_CREATABLE in a cluster that lets 16.2 in
    "tests/ceph/test_watched_images.py::test_a_healthy_cluster_has_no_failed_checks_and_all_its_pools",
    # 20.2 leaves nothing there that would have to be trimmed
    "tests/ceph/test_purged_snaps.py::test_old_data_that_no_removal_trims_any_more_is_trimmed_by_a_scrub",
    # without any capability for OSDs a client is not denied there, but never answered
    "tests/ceph/test_cluster.py::test_a_user_without_capabilities_for_the_pool_is_denied_by_each_call",
)
"""What a newer Ceph does differently, for the better or not."""

_WHEELS = "opt/rbd-csi-wheels"


def main() -> int:
    results: list[tuple[str, float, int]] = []
    for suite in sys.argv[1:] or SUITES:
        inside = programs(suite, project(), _say)
        _install_wheels(make_root(suite, _say), _python_version(inside))
        own = (sys.executable, "-m", "pytest", "--release", suite, *_side_by_side(), *_deselected(), *_TESTS)
        results.append(_timed(f"{suite}: its Ceph, this machine's librbd", own, {}))
        # in `/`, the root's working directory: 18.2 there looks for its object classes by a relative path
        there = (
            "/usr/bin/python3",
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(project()),
            *_side_by_side(),
            *_deselected(),
            *_paths(),
        )
        environment = {"PYTHONPATH": f"/{_WHEELS}:{project()}", "PYTHONDONTWRITEBYTECODE": "1"}
        results.append(_timed(f"{suite}: its Ceph, librbd and Python", (*inside.prefix, *there), environment))
    for title, seconds, code in results:
        _say(f"{title:45} {seconds:7.1f} s  {'failed' if code else 'passed'}")
    return int(any(code for *_, code in results))


def _timed(title: str, command: tuple[str, ...], environment: dict[str, str]) -> tuple[str, float, int]:
    _say(f"== {title}")
    began = time.monotonic()
    code = subprocess.run(command, env={**os.environ, **environment}, check=False).returncode
    return title, time.monotonic() - began, code


def _side_by_side() -> tuple[str, ...]:
    """As many workers as cores, each with a Ceph of its own."""
    return ("--numprocesses", os.environ.get("WORKERS", str(os.cpu_count())), "--dist", "loadscope")


def _deselected() -> tuple[str, ...]:
    return tuple(f"--deselect={test}" for test in _OTHERWISE)


def _paths() -> tuple[str, ...]:
    return tuple(str(project() / test) for test in _TESTS)


def _python_version(inside: Programs) -> str:
    return inside.run("/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").stdout.strip()


def _install_wheels(root: Path, version: str) -> None:
    """What uv.lock says, for that Python, and this project as it is now."""
    uv = next((project() / ".cache").glob("uv-*/bin/uv"))
    export = (str(uv), "export", "--quiet", "--locked", "--no-emit-project", "--project", str(project()))
    listed = subprocess.run(export, capture_output=True, check=True).stdout
    install = (str(uv), "pip", "install", "--quiet", "--python-version", version, "--no-deps")
    target = ("--target", str(root / _WHEELS))
    subprocess.run((*install, *target, "--only-binary", ":all:", "-r", "-"), input=listed, check=True)
    subprocess.run((*install, *target, "--reinstall-package", "rbd-csi", str(project())), check=True)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
