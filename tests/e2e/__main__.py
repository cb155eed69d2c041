"""`make e2e`: builds what is missing, makes the bed, and goes through the scenarios."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from rich.console import Console

from csi_driver import logs
from tests.deploy.helm import helm, is_built
from tests.e2e import programs, scenario, storage_suite
from tests.e2e.bed import IMAGE, PROJECT, made_bed
from tests.e2e.machine import MachineTaken
from tests.e2e.steps import Step

SUITES = ("all", "smoke", "storage")
_SMOKE_WAIT_S = 240


@click.command()
@click.option("--suite", type=click.Choice(SUITES), default="all", help="smoke: for CI; storage: Kubernetes' own.")
@click.option("--keep", is_flag=True, help="Leave the bed for trying by hand until the input ends.")
def e2e(*, suite: str, keep: bool) -> None:
    """The driver in a real Kubernetes on this machine, as its chart and image install it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that the bed is taken away
    logs.set_up("warning", "text")
    console, began = Console(highlight=False, width=120), time.monotonic()

    def tell(what: str) -> None:
        console.print(f"{time.monotonic() - began:7.1f} s  {what}")

    is_smoke = suite == "smoke"
    if is_smoke and (
        lacking := [one.name for one in programs.missing(programs.PROGRAMS)]
        + [name for name in ["helm"] if not is_built()]
    ):
        tell(f"NOT RUN: Kubernetes is not built on this machine (`make e2e` does it); missing: {', '.join(lacking)}")
        return
    packages = ". scripts/packages; need_packages openssl iproute2 runc containernetworking-plugins busybox-static"
    subprocess.run(["bash", "-euc", packages], cwd=PROJECT, check=True)
    programs.build((*programs.PROGRAMS, *(programs.STORAGE_TESTS if suite == "storage" else ())), tell)
    helm()
    _make_image(tell)
    try:
        with made_bed(tell, wait_s=_SMOKE_WAIT_S if is_smoke else 3600, keep=keep) as bed:
            for name, step in _steps(suite, tell):
                step(bed)
                tell(name)
    except MachineTaken as taken:
        if not is_smoke:
            raise
        tell(f"NOT RUN: {taken}")
        return
    tell(f"RAN: suite {suite}; the bed is gone")


def _lacking() -> list[str]:
    return [one.name for one in programs.missing(programs.PROGRAMS)] + ([] if is_built() else ["helm"])


def _steps(suite: str, tell: Callable[[str], None]) -> Iterator[tuple[str, Step]]:
    if suite == "storage":
        return storage_suite.steps(tell)
    return scenario.smoke() if suite == "smoke" else scenario.all_steps(tell)


def _make_image(tell: Callable[[str], None]) -> None:
    """Of what is checked out: only where something of it is newer than the image."""
    parts = (PROJECT / "csi_driver", PROJECT / "Dockerfile", PROJECT / "uv.lock", PROJECT / "pyproject.toml")
    files = [path for part in parts for path in (part.rglob("*.py") if part.is_dir() else (part,))]
    if IMAGE.exists() and IMAGE.stat().st_mtime > max(path.stat().st_mtime for path in files):
        return
    subprocess.run([str(PROJECT / "scripts" / "image")], check=True)
    tell(f"the image is made: {Path(IMAGE).name}")


if __name__ == "__main__":
    e2e()
