"""The figures of a run as pictures."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.bench.report import Report

mpl.use("Agg")


def draw(report: Report, directory: Path) -> None:
    """ratios.png and bursts.png."""
    directory.mkdir(parents=True, exist_ok=True)
    _ratios(report).savefig(directory / "ratios.png", dpi=110)
    if report.bursts:
        _bursts(report).savefig(directory / "bursts.png", dpi=110)


def _ratios(report: Report) -> Figure:
    rows = [(one.name, ratio) for one in report.series if (ratio := one.ratio())]
    figure = Figure(figsize=(8, 0.4 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    names = [name for name, _ in reversed(rows)]
    values = [ratio.value for _, ratio in reversed(rows)]
    errors = [
        [ratio.value - ratio.low for _, ratio in reversed(rows)],
        [ratio.high - ratio.value for _, ratio in reversed(rows)],
    ]
    axes.barh(names, values, xerr=errors, color="#4c78a8", capsize=3)
    axes.axvline(1, color="#333333", linewidth=1)
    axes.margins(y=0.01)
    axes.set_xlabel("median, of that of bare librbd; 95 % interval")
    return figure


def _bursts(report: Report) -> Figure:
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    kinds = sorted({one.name for one in report.bursts})
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        rows = [one for one in report.bursts if one.name == kind]
        clients = [str(one.clients) for one in rows]
        axes.plot(clients, [one.driver_per_s for one in rows], marker="o", label="driver")
        axes.plot(clients, [one.bare_per_s for one in rows], marker="o", label="bare", color="#333333")
        axes.set_title(kind)
        axes.set_xlabel("clients")
        axes.set_ylabel("per second")
        axes.set_ylim(bottom=0)
        axes.legend()
    return figure
