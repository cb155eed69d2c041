"""`rbd-csi dev`: a one-node Ceph for development and tests."""

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.table import Table

from csi_driver import logs
from csi_driver.dev import cluster
from csi_driver.dev.errors import DevError, DevMisuse
from csi_driver.dev.layout import GIB, DevOptions, project
from csi_driver.dev.release import SUITES
from csi_driver.host.commands import CommandError


class _Misused(click.ClickException):
    exit_code = 2


def _fail(error: Exception) -> NoReturn:
    kind = _Misused if isinstance(error, DevMisuse) else click.ClickException
    raise kind(str(error)) from error


def _directory(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--dir",
        "directory",
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: project() / ".dev" / "ceph",
        help="The cluster's directory.  [default: .dev/ceph of the project]",
    )(command)


@click.group()
def dev() -> None:
    """A one-node Ceph for development and tests."""
    logs.set_up("warning", "text")


@dev.command()
@_directory
@click.option("--osds", type=int, help="How many OSDs; from 3 on the pool `data` is erasure-coded.  [default: 1]")
@click.option("--osd-size", type=int, metavar="GIB", help="Size of each OSD's sparse file in GiB.  [default: 20]")
@click.option("--release", type=click.Choice(SUITES), help="Run the Ceph of another Debian suite.")
@click.option("--clone-format-1", is_flag=True, help="Leave clone format 2 forbidden, as old clusters have it.")
def up(directory: Path, osds: int | None, osd_size: int | None, release: str | None, *, clone_format_1: bool) -> None:
    """Make the cluster, or start what of it does not run."""
    size_bytes = osd_size * GIB if osd_size is not None else None
    console = Console(highlight=False)
    try:
        with console.status("a development Ceph"):
            options = DevOptions(directory, osds, size_bytes, release, clone_format_1)
            ceph = cluster.up(options, lambda line: console.print(line, soft_wrap=True))
    except (DevError, CommandError) as error:
        _fail(error)
    console.print(f"ready: ceph -c {ceph.conf} status", soft_wrap=True)


@dev.command()
@_directory
def status(directory: Path) -> None:
    """Show the daemons and the health; ends with 1 when the cluster does not run."""
    try:
        found = cluster.status(directory)
    except (DevError, CommandError) as error:
        _fail(error)
    if not found.daemons:
        _fail(DevError(f"no cluster in {directory}"))
    table = Table("daemon", "pid", "state", "address", box=None, pad_edge=False)
    for one in found.daemons:
        table.add_row(one.daemon.name, str(one.pid or "-"), "running" if one.pid else "stopped", one.address)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"health: {found.health or 'the monitor does not answer'}")
    if not found.is_running:
        raise SystemExit(1)


@dev.command()
@_directory
@click.option("--purge", is_flag=True, help="Remove the directory, too.")
def down(directory: Path, *, purge: bool) -> None:
    """End the cluster's daemons, and no others."""
    try:
        ended = cluster.down(directory, purge=purge)
    except (DevError, CommandError) as error:
        _fail(error)
    for one in ended:
        click.echo(f"{one.daemon.name}: ended")
    if not ended:
        click.echo("nothing ran")
    if purge:
        click.echo(f"{directory}: removed")
