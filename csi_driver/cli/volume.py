"""`rbd-csi volume`: what an operator does with volumes past the orchestrator."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from rich.console import Console
from rich.table import Table

from csi_driver import failpoints, logs
from csi_driver.config import DEFAULT_CLUSTERS_FILE, DEFAULT_KMS_FILE, ClustersFile, ConfigError, check_instance
from csi_driver.errors import AccessDenied, DriverError, InvalidRequest
from csi_driver.ids import Handle

if TYPE_CHECKING:
    from csi_driver.cli.operator import Operator
    from csi_driver.operations.undeletion import DeletedVolume

_UNLIMITED_WIDTH = 10_000
"""A handle is copied from the table: no line of it is broken, whatever the terminal's width."""


class MisusedError(click.ClickException):
    """One line on stderr, exit code 2."""

    exit_code = 2


def place_options(command: Callable[..., None]) -> Callable[..., None]:
    """Where an operator's command works."""
    clusters = click.option(
        "--clusters", type=click.Path(path_type=Path), default=DEFAULT_CLUSTERS_FILE, show_default=True
    )
    instance = click.option("--instance", default="default", show_default=True, help="As the driver's.")
    return clusters(instance(command))


def kms_option(command: Callable[..., None]) -> Callable[..., None]:
    """Who keeps keys of volumes."""
    path = click.Path(path_type=Path)
    option = click.option(
        "--kms-config", type=path, default=DEFAULT_KMS_FILE, show_default=True, help="As the driver's."
    )
    return option(command)


@click.group()
def volume() -> None:
    """Bring deleted volumes back; give back zeros; wrap keys of encrypted ones anew."""
    logs.set_up("warning", "text")


@volume.command()
@click.argument("handle")
@place_options
def undelete(handle: str, clusters: Path, instance: str) -> None:
    """Bring a deleted volume back under its old HANDLE; a command that was cut short is repeated."""
    with owned(handle, clusters, instance) as (operator, parsed):
        found = operator.undeletion.undelete(parsed)
    click.echo(f"{handle}: {'brought back' if found.was_deleted else 'is not deleted'}")
    if not found.is_named:
        click.echo(
            f"its name {found.name!r} is another volume's: it lives without a name, and is deleted by its handle"
        )


@volume.command()
@place_options
def deleted(clusters: Path, instance: str) -> None:
    """List the volumes that can be brought back."""
    table = Table("handle", "name", "size", "until", box=None, pad_edge=False)
    with operator_at(clusters, instance) as operator:
        for cluster_id in operator.cluster_ids():
            if operator.credentials_of(cluster_id) is None:
                click.echo(f"rbd-csi: {cluster_id}: left out, the clusters file names no credentials for it", err=True)
                continue
            for one in _in_cluster(operator, cluster_id):
                table.add_row(one.handle, one.name, f"{one.size_bytes / (1 << 20):g} MiB", _until(one))
    Console(highlight=False, markup=False, width=_UNLIMITED_WIDTH).print(table)


@volume.command()
@click.argument("handle")
@place_options
def sparsify(handle: str, clusters: Path, instance: str) -> None:
    """Give back what of volume HANDLE holds nothing but zeros. A command that was cut short is repeated."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # librbd's call, of minutes, hears of no other
    with owned(handle, clusters, instance) as (operator, parsed):
        operator.sparsify(parsed)
    click.echo(f"{handle}: sparsified")


@volume.command()
@click.argument("handles", nargs=-1, required=True, metavar="HANDLE...")
@kms_option
@click.option("--old", type=click.File(), required=True, help="A file with the passphrase of now.")
@click.option("--new", type=click.File(), required=True, help="A file with the passphrase to come.")
@place_options
def rewrap(handles: tuple[str, ...], **options: Any) -> None:
    """Wrap the keys of volumes with another passphrase. Data, header and mounts stay as they are."""
    phrases = [_phrase(options[which]) for which in ("old", "new")]
    parsed = [Handle.parse(handle) for handle in handles]
    with operator_at(options["clusters"], options["instance"]) as operator:
        rewrapping = operator.rewrapping(options["kms_config"])
        for text, handle in zip(handles, parsed, strict=True):
            if handle is None:
                raise InvalidRequest(f"{text!r} is not a volume's handle")
            done = rewrapping.rewrap(handle, *phrases)
            click.echo(f"{text}: {'wrapped with the new passphrase' if done.is_new else 'was so already'}")


def _phrase(opened: TextIO) -> str:
    """As a Secret has it: a last line feed is the editor's, not the passphrase's."""
    phrase = opened.read().removesuffix("\n")
    if not phrase:
        raise MisusedError(f"{opened.name} holds no passphrase")
    return phrase


def _in_cluster(operator: "Operator", cluster_id: str) -> Iterator["DeletedVolume"]:
    """In all pools that the user may read."""
    for key in operator.pools(cluster_id):
        try:
            yield from operator.undeletion.restorable(key)
        except AccessDenied:
            continue


def _until(one: "DeletedVolume") -> str:
    if one.is_restoring:
        return "being brought back: repeat the command"
    if one.kept_until <= time.time():
        return "the next purge"
    return datetime.fromtimestamp(one.kept_until, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@contextmanager
def operator_at(clusters: Path, instance: str, kms_file: Path | None = None) -> Iterator["Operator"]:
    """The driver's parts for an operator's command."""
    from csi_driver.cli.operator import Operator  # noqa: PLC0415 - `--help` needs no Ceph

    try:
        failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
        check_instance(instance)
        operator = Operator(ClustersFile(clusters), instance, kms_file)
    except (ConfigError, ValueError) as error:
        raise MisusedError(str(error)) from error
    try:
        with complaints():
            yield operator
    finally:
        operator.close()


@contextmanager
def complaints() -> Iterator[None]:
    """What the driver's parts raise as click's errors."""
    try:
        yield
    except (ConfigError, InvalidRequest) as error:  # the command's words, or the clusters file
        raise MisusedError(str(error)) from error
    except DriverError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def owned(handle: str, clusters: Path, instance: str) -> Iterator[tuple["Operator", Handle]]:
    """As `operator_at`, for one volume, in whose cluster the driver has credentials of its own."""
    parsed = Handle.parse(handle)
    if parsed is None:
        raise MisusedError(f"{handle!r} is not a volume's handle; `rbd-csi volume deleted` lists deleted ones")
    with operator_at(clusters, instance) as operator:
        if operator.credentials_of(parsed.cluster_id) is None:
            raise ConfigError(
                f"clusters file {clusters} names no credentials for {parsed.cluster_id!r}, and this command has no others"
            )
        yield operator, parsed
