"""`rbd-csi repair`: mends what `rbd-csi audit` finds, after asking."""

import sys
from typing import TYPE_CHECKING, Any

import click

from csi_driver import logs
from csi_driver.cli.audit import CLEAN, FINDINGS, audited, scope_options, show
from csi_driver.cli.volume import operator_at
from csi_driver.errors import DriverError

if TYPE_CHECKING:
    from csi_driver.cli.operator import Operator
    from csi_driver.operations.audit.auditor import Found

_REPORT_EVERY = 50


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--only", multiple=True, metavar="CLASS", help="Only findings of this class; may be repeated.")
@click.option("--name", "names", multiple=True, metavar="NAME", help="Also this one, whose data nothing explains.")
@scope_options
def repair(*, yes: bool, only: tuple[str, ...], names: tuple[str, ...], **scope: Any) -> None:
    """Mend what the audit finds. What holds data that nothing explains is left alone unless it is named.

    Exit code 0: nothing is left to be mended, 1: something is.
    """
    from csi_driver.operations.audit.findings import FindingClass  # noqa: PLC0415 - `--help` needs no Ceph

    logs.set_up("warning", "text")
    if unknown := set(only) - set(FindingClass):
        known = ", ".join(FindingClass)
        raise click.BadParameter(f"{', '.join(sorted(unknown))} is not known; classes are {known}", param_hint="--only")
    with operator_at(scope["clusters"], scope["instance"], scope["kms_config"]) as operator:
        looked_at = audited(operator, scope)
        found = [one for one in looked_at if not only or one.finding.what in only]
        chosen = [one for one in found if _is_chosen(one, names)]
        show(found)
        if chosen and not yes:
            click.confirm(f"mend {len(chosen)} of {len(found)}?", abort=True)
        mended = 0
        for number, one in enumerate(chosen, 1):
            mended += _mend(operator, one)
            if not number % _REPORT_EVERY:
                click.echo(f"{number} of {len(chosen)} tried, {mended} mended", err=True)
    click.echo(f"{mended} mended, {len(found) - mended} left")
    sys.exit(CLEAN if mended == len(found) else FINDINGS)


def _is_chosen(one: "Found", names: tuple[str, ...]) -> bool:
    about = one.finding.about
    return bool(about.remedy) and (not about.is_named_only or one.finding.name in names)


def _mend(operator: "Operator", one: "Found") -> bool:
    try:
        operator.auditor.repair(one)
    except DriverError as error:
        click.echo(f"rbd-csi: {one.finding.subject}: not mended: {error}", err=True)
        return False
    return True
