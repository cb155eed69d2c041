"""`make e2e`: builds what is missing, makes the bed, and goes through the scenario."""

import subprocess
import time

import click
from rich.console import Console

from csi_driver import logs
from tests.deploy.helm import helm
from tests.e2e import programs, scenario
from tests.e2e.bed import IMAGE, PROJECT, made_bed


@click.command()
@click.option("--keep", is_flag=True, help="Leave the bed for trying by hand until the input ends.")
def e2e(*, keep: bool) -> None:
    """The driver in a real Kubernetes on this machine, as its chart and image install it."""
    logs.set_up("warning", "text")
    console, began = Console(highlight=False, width=120), time.monotonic()

    def tell(what: str) -> None:
        console.print(f"{time.monotonic() - began:7.1f} s  {what}")

    programs.build(tell)
    helm()
    if not IMAGE.exists():
        subprocess.run([str(PROJECT / "scripts" / "image")], check=True)
    with made_bed(tell, keep=keep) as bed:
        for name, step in scenario.steps():
            step(bed)
            tell(name)
    tell("the bed is gone")


if __name__ == "__main__":
    e2e()
