"""What `make vm` runs in a guest, and what came of it: the node half with each attacher of the kernel, and csi-sanity.

Each suite leaves its report in the box. None of them is good without one, whatever its exit code says.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.sanity.judge import expected_skips, judge
from tests.sanity.runs import KERNEL_RUNS, REPORT

BOX = Path("/box")  # in the guest
PYTHON = ".venv/bin/python"
LATE = 124


@dataclass(frozen=True)
class Suite:
    """Of pytest when it names an attacher, else of csi-sanity."""

    name: str
    attacher: str = ""
    words: tuple[str, ...] = ()
    timeout_s: int = 5400

    def argv(self, ceph: Path) -> list[str]:
        if not self.attacher:
            runs = ",".join(run.name for run in KERNEL_RUNS)
            return [PYTHON, "-m", "tests.sanity", "--run", runs, "--ceph", str(ceph), "--results", str(BOX / "sanity")]
        report = f"--junit-xml={BOX / 'report.xml'}"
        argv = [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", report, "tests/node", "--attacher", self.attacher]
        return [*argv, *self.words]

    def outcome(self, box: Path, code: int, seconds: float) -> "Outcome":
        passed, failed = _of_pytest(box / "report.xml") if self.attacher else _of_sanity(box / "sanity")
        return Outcome(self.name, passed, failed, seconds, code)


SUITES = (Suite("krbd", "krbd"), Suite("nbd", "nbd"), Suite("sanity", timeout_s=1800))
SMOKE = Suite("smoke", "krbd", ("-m", "smoke"), 900)


@dataclass(frozen=True)
class Outcome:
    """A line of the table."""

    name: str
    passed: int
    failed: int
    seconds: float
    code: int

    @property
    def is_good(self) -> bool:
        return not self.code and not self.failed and self.passed > 0

    @property
    def verdict(self) -> str:
        if self.is_good:
            return "passed"
        return "not done in time" if self.code == LATE else f"failed ({self.code})"


def table(outcomes: Sequence[Outcome]) -> str:
    lines = [f"{'suite':8} {'passed':>7} {'failed':>7} {'seconds':>8}"]
    lines += [f"{one.name:8} {one.passed:7} {one.failed:7} {one.seconds:8.0f}  {one.verdict}" for one in outcomes]
    return "".join(f"{line}\n" for line in lines)


def _of_pytest(report: Path) -> tuple[int, int]:
    """Passed and failed; a suite that did not end has no report."""
    if not report.exists():
        return 0, 0
    found = ElementTree.parse(report).getroot().iter("testsuite")
    counts = [[int(one.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")] for one in found]
    tests, failures, errors, skipped = (sum(column) for column in zip(*counts, strict=True))
    return tests - failures - errors - skipped, failures + errors


def _of_sanity(results: Path) -> tuple[int, int]:
    passed, failed = 0, 0
    for run in KERNEL_RUNS:
        report = results / run.name / REPORT
        if report.exists():
            verdict = judge(json.loads(report.read_text()), expected_skips(), run.part)
            passed, failed = passed + verdict.passed, failed + len(verdict.problems)
    return passed, failed
