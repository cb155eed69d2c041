"""scripts/sanity: runs csi-sanity against the real driver on a development Ceph of its own, and judges each run."""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from csi_driver import logs
from csi_driver.dev import cluster
from csi_driver.dev.layout import DevCeph, DevOptions
from tests.sanity.judge import as_yaml
from tests.sanity.runs import KERNEL_RUNS, RESULTS, RUNS, Outcome, Run, carry_out


def chosen(_context: click.Context, _parameter: click.Parameter, value: str) -> list[Run]:
    names = value.split(",")
    known = {run.name: run for run in (*RUNS, *KERNEL_RUNS)}
    if unknown := [name for name in names if name not in known]:
        raise click.BadParameter(f"no run {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names]


@click.command(help=__doc__)
@click.option(
    "--run",
    "runs",
    default=",".join(run.name for run in RUNS),
    callback=chosen,
    show_default=True,
    help="which runs, separated by commas",
)
@click.option(
    "--ceph", "given", type=click.Path(exists=True, path_type=Path), help="A cluster that is there, and stays."
)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Where reports and logs go.")
def main(runs: list[Run], given: Path | None, results: Path) -> None:
    logs.set_up("warning", "text")
    with a_ceph(given, osds=max(run.osds for run in runs)) as ceph:
        outcomes = [report(run, carry_out(run, ceph, results)) for run in runs]
    tell_skips(outcomes)
    passed = sum(outcome.verdict.passed for outcome in outcomes)
    problems = sum(len(outcome.verdict.problems) + len(outcome.leaks) for outcome in outcomes)
    click.echo(f"{passed} passed, {problems} failed")
    sys.exit(0 if all(outcome.is_good for outcome in outcomes) else 1)


@contextmanager
def a_ceph(given: Path | None, osds: int) -> Iterator[DevCeph]:
    if given:
        yield cluster.made(given)
        return
    with tempfile.TemporaryDirectory(prefix="sanity-") as scratch:
        directory = Path(scratch) / "ceph"
        try:
            yield cluster.up(DevOptions(directory, osds=osds))
        finally:
            cluster.down(directory)


def tell_skips(outcomes: list[Outcome]) -> None:
    """Why specs were skipped, and how many for each reason, over all runs."""
    reasons = Counter[str]()
    for outcome in outcomes:
        for (_, reason), count in outcome.verdict.skipped.items():
            reasons[reason] += count
    for reason, count in sorted(reasons.items()):
        click.echo(f"  skipped {count}: {reason}")


def report(run: Run, outcome: Outcome) -> Outcome:
    """Prints the run's line and what is wrong with it."""
    verdict = outcome.verdict
    counts = f"{verdict.passed} passed, {verdict.failed} failed, {verdict.skipped.total()} skipped"
    click.echo(f"sanity {run.name}: {counts}, {outcome.seconds:.0f} s")
    for problem in (*verdict.problems, *outcome.leaks):
        click.echo(f"  {problem}", err=True)
    if not outcome.is_good:
        skips = outcome.results / "skips.yaml"
        skips.write_text(as_yaml(verdict.skipped))
        click.echo(f"  see {outcome.results}; {skips.name} holds what was skipped", err=True)
    return outcome


if __name__ == "__main__":
    main()
