"""`scripts/vm`: a guest for the node suite, and for whoever wants to try something on a kernel that has rbd.

A suite has a development Ceph and a guest of its own, and nothing of either is left after it but the reports. `up` leaves
both until `down`; between them `exec` runs a command in the guest, in this checkout as it is at that moment.
"""

import argparse
import shutil
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from csi_driver import logs
from csi_driver.dev import cluster
from csi_driver.dev.layout import DevOptions
from tests.sanity.binary import csi_sanity
from tests.vm.kernel import kernel
from tests.vm.machine import CHECKOUT, Guest
from tests.vm.suites import PYTHON, SMOKE, SUITES, Outcome, Suite, table

KEPT = CHECKOUT / ".cache/vm"
CEPH_VARIABLE = "RBD_CSI_TEST_CEPH"
_EXEC_S = 3600


def main() -> int:
    logs.set_up("warning", "text")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # from `timeout`: guest and Ceph go, too
    asked = _arguments()
    match asked.verb:
        case "up":
            _up(KEPT)
        case "exec":
            return _exec(Guest(KEPT / "box"), asked.words)
        case "down":
            _down(KEPT)
        case "fio":
            return _fio()
        case _:
            return _tests([SMOKE] if asked.smoke else _chosen(asked), Path(asked.junit))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/vm", description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="only what CI runs, at most five minutes")
    parser.add_argument("--suite", default=",".join(one.name for one in SUITES), help="which suites, by commas")
    parser.add_argument(
        "--junit", default=str(CHECKOUT / ".cache/vm-report.xml"), help="reports go beside it, one a suite"
    )
    parser.add_argument("verb", nargs="?", choices=["test", "up", "exec", "down", "fio"], default="test")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="of pytest, or the command of exec")
    asked = parser.parse_args()
    if unknown := set(asked.suite.split(",")) - {one.name for one in SUITES}:
        parser.error(f"no suite {', '.join(unknown)}; there are {', '.join(one.name for one in SUITES)}")
    return asked


def _chosen(asked: argparse.Namespace) -> list[Suite]:
    """Words are pytest's: with some, csi-sanity is left out."""
    suites = [one for one in SUITES if one.name in asked.suite.split(",") and (one.attacher or not asked.words)]
    return [replace(one, words=(*one.words, *asked.words)) for one in suites]


def _tests(suites: list[Suite], report: Path) -> int:
    if any(not one.attacher for one in suites):
        csi_sanity()  # built here, where the guest finds it
    outcomes = []
    for suite in suites:
        outcomes.append(_run(suite, report if suite is SMOKE else report.with_stem(f"{report.stem}-{suite.name}")))
        _say(table(outcomes))
    return 0 if all(one.is_good for one in outcomes) else 1


def _run(suite: Suite, report: Path) -> Outcome:
    with _place() as place:
        guest = _up(place)
        began = time.monotonic()
        code = guest.run(suite.argv(place / "ceph"), _say, timeout_s=suite.timeout_s, env=_environment(place))
        outcome = suite.outcome(guest.box, code, time.monotonic() - began)
        _keep(guest.box, report)
    return outcome


def _keep(box: Path, report: Path) -> None:
    """Reports for whoever looks into a failure."""
    report.parent.mkdir(parents=True, exist_ok=True)
    if (box / "report.xml").exists():
        shutil.copy(box / "report.xml", report)
    if (box / "sanity").exists():
        shutil.copytree(box / "sanity", report.with_suffix(""), dirs_exist_ok=True)


def _fio() -> int:
    with _place() as place:
        argv = [PYTHON, "-m", "tests.vm.fio", str(place / "ceph")]
        return _up(place).run(argv, _say, timeout_s=_EXEC_S, env=_environment(place))


@contextmanager
def _place() -> Iterator[Path]:
    """Not below a file system of memory: what the guest sees of this machine is on a disk."""
    place = Path(tempfile.mkdtemp(prefix="rbd-csi-vm-", dir="/var/tmp"))
    try:
        yield place
    finally:
        _down(place)


def _up(place: Path) -> Guest:
    place.mkdir(parents=True, exist_ok=True)
    guest = Guest(place / "box")
    try:
        of = kernel(lambda line: _say(f"vm: {line}\n"))
        cluster.up(DevOptions(place / "ceph"))
        guest.start(of)
    except BaseException:
        _down(place)
        raise
    _say(f"vm: up, Linux {of.release}\n")
    return guest


def _exec(guest: Guest, words: list[str]) -> int:
    """What changed in the checkout since the guest was started comes along."""
    archive = guest.box / "checkout.tar"
    with tarfile.open(archive, "w") as packed:
        for name in ("csi_driver", "tests"):
            packed.add(CHECKOUT / name, name, filter=lambda one: None if one.name.endswith("__pycache__") else one)
    guest.run(["tar", "-xf", "/box/checkout.tar", "--no-same-owner", "--overwrite"], _say, timeout_s=120)
    return guest.run(words, _say, timeout_s=_EXEC_S, env=_environment(guest.box.parent))


def _environment(place: Path) -> dict[str, str]:
    return {CEPH_VARIABLE: str(place / "ceph")}


def _down(place: Path) -> None:
    Guest(place / "box").stop()
    cluster.down(place / "ceph", purge=True)
    shutil.rmtree(place, ignore_errors=True)


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
