"""`rbd-csi demo`: a volume's life on a development cluster, step by step, through the socket of a driver of its own."""

import shlex
import signal
import sys
import time
from pathlib import Path

import click
from rich.console import Console

from csi_driver import logs
from csi_driver.demo.guide import Guide
from csi_driver.demo.place import DemoError, Place
from csi_driver.dev import cluster
from csi_driver.dev.errors import DevError
from csi_driver.dev.layout import DevCeph, DevOptions, Record, project
from csi_driver.errors import DriverError


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: project() / ".dev" / "ceph",
    help="The development cluster's directory.  [default: .dev/ceph of the project]",
)
@click.option("--keep", is_flag=True, help="Leave driver and volume for trying by hand, and say how.")
@click.option("--end", "only_end", is_flag=True, help="Only end what --keep has left.")
def demo(directory: Path, *, keep: bool, only_end: bool) -> None:
    """A volume's life, step by step, on the development cluster."""
    logs.set_up("warning", "text")
    # SIGINT too: what a shell starts in the background has it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    console = Console(highlight=False)
    directory = directory.resolve()
    try:
        ceph = _cluster_in(directory)
        place = Place.beside(directory)
        with place.held():
            guide = Guide(ceph, place, console)
            if not guide.clear_previous() and only_end:
                console.print("nothing ran")
            if not only_end:
                _run(Guide(ceph, place, console), console, keep=keep)
                if keep:
                    _explain(ceph, place, guide.volume.fs_type, console)
    except (DemoError, DevError, DriverError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _cluster_in(directory: Path) -> DevCeph:
    """What of it does not run is started; none is made."""
    if Record.read(directory) is None:
        raise DemoError(f"there is no development cluster in {directory}; `rbd-csi dev up` makes one")
    return cluster.up(DevOptions(directory))


def _run(guide: Guide, console: Console, *, keep: bool) -> None:
    """Clears away what it made, however it ends."""
    started = time.monotonic()
    try:
        guide.begin()
        if keep:
            return
        guide.end()
    except BaseException:
        console.print("clearing away what was made (Ctrl-C leaves it to the next run)", soft_wrap=True)
        try:
            guide.clear()
        except (DemoError, DriverError, OSError) as second:
            console.print(f"not all could be cleared away, the next run tries again: {second}", soft_wrap=True)
        raise
    console.print(f"all as it must be, in {time.monotonic() - started:.1f} s", soft_wrap=True)


def _explain(ceph: DevCeph, place: Place, fs_type: str, console: Console) -> None:
    python = shlex.join([sys.executable, "-ic", _INTERACTIVE.format(socket=place.socket)])
    program = shlex.quote(str(Path(sys.argv[0])))
    cluster_directory = "" if ceph.directory == project() / ".dev" / "ceph" else f" --dir {ceph.directory}"
    console.print(
        f"\nAll is running. The volume ({fs_type}) is at\n"
        f"  {place.target}\n"
        f"the driver's log at\n  {place.log}\n"
        f"the cluster, as operator:\n  rbd -c {ceph.conf} ls --long rbd\n"
        f"the driver's socket, from Python; for example rpc.node.NodeGetInfo(pb.NodeGetInfoRequest()):\n  {python}\n"
        f"To end it, before the cluster is ended:\n  {program} demo --end{cluster_directory}",
        soft_wrap=True,
        markup=False,
    )


_INTERACTIVE = (
    'from csi_driver.demo.client import Client; from csi_driver.pb import csi_pb2 as pb; rpc = Client("{socket}")'
)
