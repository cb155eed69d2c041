"""What was measured: as JSON, as a table, and two runs compared."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.bursts import Burst
from tests.bench.stats import Series, percentile, ratio_of_medians


@dataclass
class Report:
    """All of one run."""

    series: list[Series] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        content = {
            "machine": {"python": platform.python_version(), "system": platform.platform()},
            "series": [one.values() for one in self.series],
            "bursts": [one.values() for one in self.bursts],
            "facts": self.facts,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Report":
        content: Mapping[str, Any] = json.loads(path.read_text())
        return cls(
            [Series(**one) for one in content["series"]],
            [Burst(**one) for one in content["bursts"]],
            dict(content["facts"]),
        )

    def show(self, console: Console) -> None:
        console.print(_series_table(self.series))
        if self.bursts:
            console.print(_bursts_table(self.bursts))
        for name, value in self.facts.items():
            console.print(f"{name}: {value:.1f}")


def compare(console: Console, old: Report, new: Report) -> None:
    """The driver's medians of two runs, each divided by its run's bare ones, where there are any."""
    table = Table("operation", "old, of bare", "new, of bare", "new / old, 95 %", title="two runs")
    before = {one.name: one for one in old.series}
    for one in new.series:
        if one.name not in before or not one.driver or not before[one.name].driver:
            continue
        was, is_now = _normalised(before[one.name]), _normalised(one)
        change = ratio_of_medians(is_now, was)
        table.add_row(one.name, f"{percentile(was, 50):.2f}", f"{percentile(is_now, 50):.2f}", str(change))
    console.print(table)


def _normalised(series: Series) -> Sequence[float]:
    unit = percentile(series.bare, 50) if series.bare else 1.0
    return [time / unit for time in series.driver]


def _series_table(series: list[Series]) -> Table:
    table = Table(title="one client, milliseconds")
    for column in ("operation", "p50", "p95", "p99", "bare p50", "p95", "p99", "of bare, p50 [95 %]"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    for one in series:
        shown = [f"{percentile(one.driver, q):.1f}" for q in (50, 95, 99)]
        bare = [f"{percentile(one.bare, q):.1f}" if one.bare else "" for q in (50, 95, 99)]
        table.add_row(one.name, *shown, *bare, str(one.ratio() or ""))
    return table


def _bursts_table(bursts: list[Burst]) -> Table:
    table = Table(title="many clients, per second")
    for column in ("operation", "clients", "driver", "bare", "of bare", "Probe p99, ms"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    for one in bursts:
        numbers = (f"{one.driver_per_s:.0f}", f"{one.bare_per_s:.0f}", f"{one.share:.2f}", f"{one.probe_p99_ms:.1f}")
        table.add_row(one.name, str(one.clients), *numbers)
    return table
