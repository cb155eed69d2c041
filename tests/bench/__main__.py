"""`make bench` (a minute or two) and `make bench FULL=1`; `--compare OLD.json` tells what has changed since a run."""

import time
from collections.abc import Iterable
from pathlib import Path

import click
from rich.console import Console

from csi_driver import logs
from tests.bench import crowds, workloads
from tests.bench.bed import Bed, made_bed
from tests.bench.bursts import creates_and_deletes
from tests.bench.charts import draw
from tests.bench.process import footprint, idle_percent
from tests.bench.report import Report, compare
from tests.bench.stats import Series

QUICK_ROUNDS, FULL_ROUNDS = 20, 100
QUICK_BURSTS = ((8, 64), (32, 200))
FULL_BURSTS = ((1, 100), (8, 400), (32, 1000), (128, 1000))


@click.command()
@click.option(
    "--full", is_flag=True, help="Every workload, with counts that give narrow intervals; about half an hour."
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=Path(".cache/bench/latest.json"))
@click.option("--charts", type=click.Path(path_type=Path), help="Draw ratios.png and bursts.png into this directory.")
@click.option("--compare", "old", type=click.Path(exists=True, path_type=Path), help="An older run's JSON.")
def bench(*, full: bool, json_path: Path, charts: Path | None, old: Path | None) -> None:
    """What the driver adds to bare Ceph."""
    logs.set_up("warning", "text")
    console, report = Console(width=120), Report()
    try:
        with made_bed() as bed:
            report.facts["start to ready, s"] = bed.start_s
            report.facts["memory at start, MB"] = footprint(bed.driver.pid).memory_mb
            _measure(bed, report, console, full=full)
    finally:  # what was measured before a run was cut short is worth having
        report.write(json_path)
        report.show(console)
        console.print(f"written: {json_path}")
    if charts:
        draw(report, charts)
    if old:
        compare(console, Report.read(old), report)


def _measure(bed: Bed, report: Report, console: Console, *, full: bool) -> None:
    rounds = FULL_ROUNDS if full else QUICK_ROUNDS
    _take(report, console, workloads.SingleClient(bed, rounds).run())
    _take(report, console, workloads.written_by_a_client(bed, rounds // 2))
    _take(report, console, workloads.lifecycles(bed, rounds // 2))
    _take(report, console, workloads.staging(bed, rounds // 5))
    if full:
        _take(report, console, workloads.chains(bed, rounds // 10))
        _take(report, console, workloads.full_volumes(bed, rounds // 20))
    for clients, number in FULL_BURSTS if full else QUICK_BURSTS:
        for burst in creates_and_deletes(bed, clients, number):
            console.print(f"{burst.name} by {burst.clients}: {burst.driver_per_s:.0f}/s, {burst.share:.2f} of bare")
            report.bursts.append(burst)
    seen = footprint(bed.driver.pid)
    report.facts |= {"memory after the bursts, MB": seen.memory_mb, "threads": seen.threads, "sockets": seen.sockets}
    report.facts["memory of the node's half, MB"] = footprint(bed.node.pid).memory_mb
    report.facts["idle, % of a core"] = idle_percent(bed.driver.pid, 10 if full else 3)
    report.facts["the node's half idle, % of a core"] = idle_percent(bed.node.pid, 10 if full else 3)
    if full:
        _take(report, console, crowds.with_snapshots_present(bed, rounds))
        _take(report, console, crowds.with_volumes_present(bed, rounds))
        _take(report, console, crowds.with_trash_present(bed, rounds))


def _take(report: Report, console: Console, measured: Iterable[Series]) -> None:
    began = time.monotonic()
    for series in measured:
        console.print(f"{series.name}: {series.ratio() or ''}  ({time.monotonic() - began:.0f} s)")
        report.series.append(series)


if __name__ == "__main__":
    bench()
