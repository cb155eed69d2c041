"""`rbd-csi node`: what an operator does about a node that is gone, and on one that is there."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from csi_driver import logs
from csi_driver.cli.volume import complaints, operator_at, place_options
from csi_driver.config import ConfigError
from csi_driver.host.filesystems import LocalFilesystems
from csi_driver.host.mounts import LocalMounts
from csi_driver.operations import trimming
from csi_driver.operations.nodes import forget_node

_UNLIMITED_WIDTH = 10_000
"""Handles and addresses are copied from the table."""


@click.group()
def node() -> None:
    """Fence and forget nodes; trim volumes on one."""
    logs.set_up("warning", "text")


@node.command()
@click.argument("node_id", metavar="NODE")
@place_options
def fence(node_id: str, clusters: Path, instance: str) -> None:
    """Cut NODE off from all volumes that it has, for good, and withdraw them from it.

    For a node that is gone and may still write: what it has in memory comes to its volumes no more, and other nodes
    may have them. When it comes back it is restarted, or what it had mounted is unmounted. Ends with 1 if a volume was left.
    """
    table = Table("volume", "cut off", "left, because", box=None, pad_edge=False)
    is_whole = True
    with operator_at(clusters, instance) as operator:
        _refuse_missing_credentials(operator.lacks_credentials())
        for one in operator.fencing.fence(node_id):
            table.add_row(one.volume_id, " ".join(one.addresses) or ("" if one.trouble else "nobody"), one.trouble)
            is_whole = is_whole and not one.trouble
    if not table.row_count:
        click.echo(f"{node_id}: has no volume")
        return
    Console(highlight=False, markup=False, width=_UNLIMITED_WIDTH).print(table)
    if not is_whole:
        raise click.ClickException(f"{node_id}: some volumes were left to it")


@node.command()
@click.argument("node_id", metavar="NODE")
@place_options
def forget(node_id: str, clusters: Path, instance: str) -> None:
    """Forget NODE, which has no volume any more: nothing is published to it until its plugin makes it known again."""
    with operator_at(clusters, instance) as operator:
        _refuse_missing_credentials(operator.lacks_credentials())
        if has := operator.fencing.volumes_of(node_id):
            raise click.ClickException(
                f"{node_id} has {', '.join(has)}: unpublish them there, or `rbd-csi node fence {node_id}`"
            )
        was_known = forget_node(operator.own_pools, node_id)
    click.echo(f"{node_id}: {'forgotten' if was_known else 'is not known'}")


@node.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--timeout", "timeout_s", type=click.IntRange(1), default=600, show_default=True, help="Most seconds.")
def trim(path: Path, timeout_s: int) -> None:
    """Have the file system at PATH, where a volume is staged or published on this node, give back what it does not use."""
    seen = path.absolute()
    with complaints():
        done = trimming.trim(
            LocalMounts(), LocalFilesystems(), seen.parent.resolve() / seen.name, timeout_s=float(timeout_s)
        )
    click.echo(f"{done.volume_id}: {done.size_bytes / (1 << 20):.0f} MiB without data told to the image")


def _refuse_missing_credentials(clusters: tuple[str, ...]) -> None:
    if clusters:
        raise ConfigError(
            f"the clusters file names no credentials for {', '.join(clusters)}, and a node may have volumes there"
        )
