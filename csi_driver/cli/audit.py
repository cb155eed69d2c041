"""`rbd-csi audit`: what is wrong with the pools of the clusters file. Read-only; safe while the driver runs."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from csi_driver import logs
from csi_driver.cli.volume import kms_option, operator_at, place_options

if TYPE_CHECKING:
    from csi_driver.cli.operator import Operator
    from csi_driver.operations.audit.auditor import Found
    from csi_driver.operations.site import PoolKey

CLEAN, FINDINGS = 0, 1

_UNLIMITED_WIDTH = 10_000
_REPORT_EVERY = 500


def scope_options(command: Callable[..., None]) -> Callable[..., None]:
    """Which clusters and pools are looked at."""
    cluster = click.option("--cluster", "cluster_id", help="Only this cluster of the clusters file.")
    pool = click.option("--pool", help="Only this pool, not every one that the credentials may read.")
    settle = click.option(
        "--settle",
        "settle_s",
        type=float,
        default=5.0,
        show_default=True,
        help="Seconds between the two looks at a pool.",
    )
    return cluster(pool(settle(kms_option(place_options(command)))))


@click.command()
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
@scope_options
def audit(style: str, **scope: Any) -> None:
    """Find leftovers and damage in the pools. Exit code 0: nothing found, 1: findings, 2: it could not be looked at."""
    logs.set_up("warning", "text")
    with operator_at(scope["clusters"], scope["instance"], scope["kms_config"]) as operator:
        found = list(audited(operator, scope))
    if style == "json":
        click.echo(json.dumps([_values(one) for one in found], indent=2))
    else:
        show(found)
    sys.exit(FINDINGS if found else CLEAN)


def audited(operator: "Operator", scope: Mapping[str, Any]) -> Iterator["Found"]:
    """Progress goes to stderr."""
    for key in pool_keys(operator, scope["cluster_id"], scope["pool"]):
        yield from operator.auditor.audit(key, tell_progress(key), scope["settle_s"])


def show(found: list["Found"]) -> None:
    if not found:
        click.echo("nothing found")
        return
    table = Table("cluster", "pool", "class", "what", "how it comes about", "repair", box=None, pad_edge=False)
    for one in found:
        about = one.finding.about
        remedy = about.remedy or "none: a person is needed"
        named = f" (--name {one.finding.name})" if about.is_named_only else ""
        table.add_row(one.cluster_id, one.pool, one.finding.what, one.finding.subject, about.cause, f"{remedy}{named}")
    Console(highlight=False, markup=False, width=_UNLIMITED_WIDTH).print(table)


def _values(one: "Found") -> dict[str, object]:
    about = one.finding.about
    return {
        "cluster": one.cluster_id,
        "pool": one.pool,
        "class": one.finding.what,
        "name": one.finding.name,
        "subject": one.finding.subject,
        "cause": about.cause,
        "repair": about.remedy,
        "onlyByName": about.is_named_only,
    }


def pool_keys(operator: "Operator", cluster_id: str | None, pool: str | None) -> Iterator["PoolKey"]:
    for one in (cluster_id,) if cluster_id else operator.cluster_ids():
        if operator.credentials_of(one) is None:
            click.echo(f"rbd-csi: {one}: left out, the clusters file names no credentials for it", err=True)
            continue
        keys = operator.pools(one)
        if pool and pool not in {key.pool for key in keys}:
            raise click.ClickException(f"cluster {one!r} has no pool {pool!r}")
        yield from (key for key in keys if pool in (None, key.pool))


def tell_progress(key: "PoolKey") -> Callable[[str, int, int], None]:
    def tell(what: str, number: int, of: int) -> None:
        if number and not number % _REPORT_EVERY:
            click.echo(f"{key.cluster_id}/{key.pool}: {number}{f' of {of}' if of else ''} {what}", err=True)

    return tell
