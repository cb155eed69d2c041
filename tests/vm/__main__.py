"""`scripts/vm`: a guest for the node suite, and for whoever wants to try something on a kernel that has rbd.

A run makes a development Ceph and a guest, and nothing of either is left after it but the report. `up` leaves both until
`down`; between them `exec` runs a command in the guest, in this checkout as it is at that moment.
"""

import argparse
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from csi_driver import logs
from csi_driver.dev import cluster
from csi_driver.dev.layout import DevOptions
from tests.vm.kernel import kernel
from tests.vm.machine import CHECKOUT, Guest

KEPT = CHECKOUT / ".cache/vm"
CEPH_VARIABLE = "RBD_CSI_TEST_CEPH"
_SUITE = ("tests/node", "--attacher", "krbd")
_SMOKE = ("tests/node", "--attacher", "krbd", "-m", "smoke")
_SUITE_S, _SMOKE_S, _EXEC_S = 5400, 900, 3600


def main() -> int:
    logs.set_up("warning", "text")
    asked = _arguments()
    match asked.verb:
        case "up":
            _up(KEPT)
        case "exec":
            return _exec(Guest(KEPT / "box"), asked.words)
        case "down":
            _down(KEPT)
        case _:
            words = [*(_SMOKE if asked.smoke else _SUITE), *asked.words]
            return _tests(words, Path(asked.junit), _SMOKE_S if asked.smoke else _SUITE_S)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/vm", description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="only what CI runs, at most five minutes")
    parser.add_argument("--junit", default=str(CHECKOUT / ".cache/vm-report.xml"), help="where the report goes")
    parser.add_argument("verb", nargs="?", choices=["test", "up", "exec", "down"], default="test")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="of pytest, or the command of exec")
    return parser.parse_args()


def _tests(words: list[str], report: Path, timeout_s: int) -> int:
    with _place() as place:
        guest = _up(place)
        argv = [".venv/bin/python", "-m", "pytest", "-p", "no:cacheprovider", "--junit-xml=/box/report.xml", *words]
        code = guest.run(argv, _say, timeout_s=timeout_s, env=_environment(place))
        if (guest.box / "report.xml").exists():
            report.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(guest.box / "report.xml", report)
        if code == 124:
            _say(f"vm: not done within {timeout_s} s\n")
    return code


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
