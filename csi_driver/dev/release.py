"""The Ceph of another Debian suite: its programs in a root directory made by debootstrap, kept and used again.

The root is in the cache directory (RBD_CSI_CACHE, or .cache of the project), shared by every cluster of that release,
and whole once `.ready` is there. Each program runs in a mount namespace of its own, which ends with it, so that nothing
stays mounted. The cluster's directory has the same path inside and outside: one ceph.conf serves both.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from csi_driver.dev.errors import DevError
from csi_driver.dev.layout import project
from csi_driver.dev.making import Report
from csi_driver.dev.programs import Programs
from csi_driver.host.commands import CommandError, run

SUITES = ("trixie", "forky")
_PACKAGES = ("ceph-mon", "ceph-mgr", "ceph-osd", "ceph-common", "python3-rados", "python3-rbd")
_INSTALL_S = 1800.0
_APT_WAIT = ("-o", "DPkg::Lock::Timeout=600")
_ENTER = Path(__file__).with_name("enter.sh")


def programs(suite: str, shared: Path, report: Report) -> Programs:
    """The release's programs; the shared directory is the same inside. Makes the root when it is not there yet."""
    return _inside(make_root(suite, report), shared)


def make_root(suite: str, report: Report) -> Path:
    """The release's root directory, made unless it is there. Raises DevError."""
    root = _cache() / "releases" / suite
    root.mkdir(parents=True, exist_ok=True)
    try:
        with _held(root.with_suffix(".lock")):
            if not (root / ".ready").exists():
                _make_root(suite, root, report)
    except CommandError as failed:
        raise DevError(f"the root of {suite} in {root} cannot be made: {failed}") from failed
    return root


def _inside(root: Path, *shared: Path) -> Programs:
    """Programs in the root; `shared` is at most one directory that is the same inside."""
    share = str(shared[0]) if shared else ""
    return Programs(("unshare", "--mount", "--propagation", "private", "sh", str(_ENTER), str(root), share))


def _make_root(suite: str, root: Path, report: Report) -> None:
    if not shutil.which("debootstrap"):
        run(("apt-get", "-q", *_APT_WAIT, "update"), timeout_s=_INSTALL_S)
        run(("apt-get", "-q", *_APT_WAIT, "install", "-y", "debootstrap"), timeout_s=_INSTALL_S)
    report(f"{suite}: making a root directory with debootstrap, once")
    shutil.rmtree(root)
    run(("debootstrap", "--variant=minbase", suite, str(root), _mirror(), _script(suite)), timeout_s=_INSTALL_S)
    (root / "etc/apt/apt.conf.d/99host").write_text(_apt_settings())
    policy = root / "usr/sbin/policy-rc.d"  # no package may start a service
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)

    report(f"{suite}: installing Ceph, once")
    inside = _inside(root)
    inside.run("apt-get", "-q", "update", timeout_s=_INSTALL_S)
    install = ("apt-get", "-q", "install", "-y", "--no-install-recommends", *_PACKAGES)
    inside.run("env", "DEBIAN_FRONTEND=noninteractive", *install, timeout_s=_INSTALL_S)
    inside.run("apt-get", "clean")
    _let_mgr_load_modules(root)
    (root / ".ready").touch()


def _let_mgr_load_modules(root: Path) -> None:
    """18.2's mgr loads no module at all otherwise: bcrypt refuses sub-interpreters, and only the dashboard needs it."""
    module = root / "usr/share/ceph/mgr/mgr_util.py"
    lines = module.read_text().splitlines(keepends=True)
    module.write_text("".join("bcrypt = None\n" if line == "import bcrypt\n" else line for line in lines))


def _mirror() -> str:
    """The mirror that this machine itself uses."""
    targets = run(("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)"), timeout_s=60).stdout
    for target in targets.splitlines():
        site, _, archive = target.partition(" ")
        if "security" not in archive:
            return site
    raise DevError("apt knows no mirror: /etc/apt/sources.list.d names none, or `apt-get update` has not run")


def _script(suite: str) -> str:
    """debootstrap's script for the suite; a suite newer than this debootstrap is made as sid is."""
    scripts = Path("/usr/share/debootstrap/scripts")
    return str(scripts / (suite if (scripts / suite).exists() else "sid"))


def _apt_settings() -> str:
    """How this machine reaches and judges its mirror: proxies, and whether a frozen mirror's dates are checked."""
    said = run(("apt-config", "dump"), timeout_s=60).stdout
    kept = ("Acquire::Check-", "Acquire::http", "Acquire::https", "Acquire::Retries")
    return "".join(line + "\n" for line in said.splitlines() if line.startswith(kept))


def _cache() -> Path:
    return Path(os.environ.get("RBD_CSI_CACHE") or project() / ".cache").resolve()


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
