"""Judges a run of csi-sanity by its JSON report: its exit code is 0 even when most specs were skipped.

A run is good when no spec failed and exactly those were skipped that `expected_skips.yaml` lists, each for the reason
given there: one that starts to be skipped fails the run, and so does one that is listed and now runs. Of a run that was asked
for a part alone, csi-sanity's `-ginkgo.focus`, only the specs of that part are judged.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

EXPECTED_SKIPS = Path(__file__).parent / "expected_skips.yaml"
SPECS = 103  # in v5.6.0, of which one is pending: a report with fewer is cut short

Skips = Counter[tuple[str, str]]


@dataclass(frozen=True)
class Verdict:
    """What a report says; `problems` is empty for a good run."""

    passed: int
    failed: int
    skipped: Skips
    problems: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        return not self.problems


def expected_skips(path: Path = EXPECTED_SKIPS) -> Skips:
    """The committed expectation: by reason, the specs that are skipped for it."""
    by_reason: Mapping[str, list[str]] = yaml.safe_load(path.read_text()) or {}
    return Counter((name, reason) for reason, names in by_reason.items() for name in names)


def as_yaml(skips: Skips) -> str:
    """Skips in the layout of the expectation, to be committed when a capability was added or taken away."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in sorted(skips.elements()):
        by_reason.setdefault(reason, []).append(name)
    return yaml.safe_dump(by_reason, width=1000, sort_keys=True)


def judge(report: Sequence[Mapping[str, Any]], expected: Skips, part: str = "") -> Verdict:
    """`report` is what -ginkgo.json-report wrote. part: how the names of the specs begin that were asked for."""
    nodes = [node for suite in report for node in suite["SpecReports"] or ()]
    specs = [node for node in nodes if node["LeafNodeType"] == "It"]
    asked = [spec for spec in specs if _name(spec).startswith(part)]
    states = Counter(spec["State"] for spec in asked)
    skipped = Counter((_name(spec), _message(spec)) for spec in asked if spec["State"] == "skipped")
    expected = Counter({skip: count for skip, count in expected.items() if skip[0].startswith(part)})
    broken = [node for node in nodes if node["State"] not in ("passed", "skipped", "pending")]
    problems = [f"failed: {_name(node)}\n{_message(node)}" for node in broken]
    problems += [f"skipped, though not expected: {name} ({why})" for name, why in (skipped - expected).elements()]
    problems += [
        f"expected to be skipped, but was not: {name} ({why})" for name, why in (expected - skipped).elements()
    ]
    if len(specs) != SPECS:
        problems.append(f"the report holds {len(specs)} specs, not {SPECS}")
    if not states["passed"]:
        problems.append(f"no spec of {part or 'all'} has passed")
    if not all(suite["SuiteSucceeded"] for suite in report):
        problems.append("the suite did not succeed")
    return Verdict(states["passed"], len(broken), skipped, tuple(problems))


def _name(node: Mapping[str, Any]) -> str:
    return " ".join([*(node["ContainerHierarchyTexts"] or ()), node["LeafNodeText"] or node["LeafNodeType"]])


def _message(node: Mapping[str, Any]) -> str:
    message: str = node.get("Failure", {}).get("Message", "")
    return message
