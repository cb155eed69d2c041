"""`rbd-csi rebuild`: restores what the journal has lost, after asking."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from csi_driver import logs
from csi_driver.claims import Claims
from csi_driver.cli.audit import CLEAN, FINDINGS, pool_keys, tell_progress
from csi_driver.cli.volume import MisusedError, operator_at, place_options
from csi_driver.config import DEFAULT_DRIVER_NAME
from csi_driver.errors import DriverError, InvalidRequest
from csi_driver.journal.layout import GROUPS
from csi_driver.mapping_file import read_cluster_mapping

if TYPE_CHECKING:
    from csi_driver.cli.operator import Operator
    from csi_driver.operations.rebuild.rebuilder import Lost

_UNLIMITED_WIDTH = 10_000
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only show what would be restored.")
@click.option(
    "--objects",
    type=_FILE,
    help="PVs (and contents of snapshots and groups) as `kubectl get -o json` or yaml prints them.",
)
@click.option("--kubernetes", "from_api", is_flag=True, help="Ask the Kubernetes API for them.")
@click.option("--metadata", "by_metadata", is_flag=True, help="Also believe what images say whose volume they are.")
@click.option("--driver-name", default=DEFAULT_DRIVER_NAME, show_default=True, help="Whose PVs are meant.")
@click.option("--cluster-mapping", "mapping", type=_FILE, help="As the driver's.")
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--cluster", "cluster_id", help="Only this cluster of the clusters file.")
@click.option("--pool", help="Only this pool, not every one that the credentials may read.")
@place_options
def rebuild(*, yes: bool, dry_run: bool, style: str, by_metadata: bool, **scope: Any) -> None:
    """Restore entries and names of volumes, snapshots and groups that the journal has lost; what stands there stays.

    Exit code 0: nothing is left to be restored, 1: something is, 2: it could not be looked at.
    """
    logs.set_up("warning", "text")
    with operator_at(scope["clusters"], scope["instance"]) as operator:
        claims = _claims(operator, scope)
        lost = [
            one
            for key in pool_keys(operator, scope["cluster_id"], scope["pool"])
            for one in operator.rebuilder.look(key, claims, tell_progress(key), by_metadata=by_metadata)
        ]
        # Groups last: their volumes may be in another pool.
        possible = sorted((one for one in lost if one.wanted.is_possible), key=lambda one: one.wanted.kind is GROUPS)
        _show(lost, style)
        if possible and not yes and not dry_run:
            click.confirm(f"restore {len(possible)} of {len(lost)}?", abort=True, err=style == "json")
        restored = 0 if dry_run else sum(_restore(operator, one) for one in possible)
    click.echo(f"{restored} restored, {len(lost) - restored} left", err=style == "json")
    sys.exit(CLEAN if restored == len(lost) else FINDINGS)


def _claims(operator: "Operator", scope: dict[str, Any]) -> Claims:
    from csi_driver.orchestrator.persistent_volumes import claims_of, parse_objects, read_objects  # noqa: PLC0415

    objects = []
    if scope["objects"]:
        try:
            objects += parse_objects(scope["objects"].read_text())
        except (OSError, UnicodeDecodeError, InvalidRequest) as error:
            raise MisusedError(f"--objects {scope['objects']}: {error}") from error
    if scope["from_api"]:
        objects += read_objects()
    mapping, known = read_cluster_mapping(scope["mapping"]), operator.cluster_ids()
    return claims_of(objects, scope["driver_name"], lambda handle: mapping.translate(handle, known))


def _show(lost: list["Lost"], style: str) -> None:
    if style == "json":
        click.echo(json.dumps([_values(one) for one in lost], indent=2))
    elif not lost:
        click.echo("nothing is lost")
    else:
        table = Table("cluster", "pool", "handle", "kind", "name", "restores", "image", box=None, pad_edge=False)
        for one in lost:
            wanted = one.wanted
            image = f"{wanted.image}@{wanted.snap.name}" if wanted.snap else wanted.image
            act = wanted.act if wanted.is_possible else f"nothing: {wanted.problem}"
            table.add_row(one.cluster_id, one.pool, one.handle, wanted.kind.noun, wanted.request_name, act, image)
        Console(highlight=False, markup=False, width=_UNLIMITED_WIDTH).print(table)


def _values(one: "Lost") -> dict[str, str]:
    wanted = one.wanted
    return {
        "cluster": one.cluster_id,
        "pool": one.pool,
        "handle": one.handle,
        "kind": wanted.kind.noun,
        "name": wanted.request_name,
        "restores": wanted.act,
        "image": wanted.image,
        "snap": wanted.snap.name if wanted.snap else "",
        "problem": wanted.problem,
    }


def _restore(operator: "Operator", one: "Lost") -> bool:
    try:
        operator.rebuilder.restore(one)
    except DriverError as error:
        click.echo(f"rbd-csi: {one.handle}: not restored: {error}", err=True)
        return False
    return True
