"""What a report of csi-sanity is taken for. The reports here have the shape that ginkgo writes."""

from collections import Counter
from pathlib import Path
from typing import Any

from tests.sanity.judge import SPECS, as_yaml, expected_skips, judge

EXPECTED = Counter({("Controller lists volumes", "ListVolumes not supported"): 1})


def spec(name: str, state: str, message: str = "", kind: str = "It") -> dict[str, Any]:
    node = {"ContainerHierarchyTexts": ["Controller"], "LeafNodeType": kind, "LeafNodeText": name, "State": state}
    return node | ({"Failure": {"Message": message}} if message else {})


def report(*specs: dict[str, Any], succeeded: bool = True) -> list[dict[str, Any]]:
    """The given specs, filled up to a full report with passed ones."""
    rest = [spec(f"does thing {number}", "passed") for number in range(SPECS - len(specs))]
    return [{"SuiteSucceeded": succeeded, "SpecReports": [*specs, *rest]}]


SKIPPED = spec("lists volumes", "skipped", "ListVolumes not supported")
PENDING = spec("pages", "pending")


def test_a_run_with_the_expected_skips_is_good() -> None:
    """All passed, but for the pending spec and those that the expectation lists."""
    verdict = judge(report(SKIPPED, PENDING), EXPECTED)
    assert verdict.is_good
    assert (verdict.passed, verdict.failed, verdict.skipped) == (SPECS - 2, 0, EXPECTED)


def test_a_failed_spec_fails_the_run_with_its_message() -> None:
    """A failure, a panic, a timeout and a failing set-up are all failures."""
    for state, kind in (("failed", "It"), ("panicked", "It"), ("timedout", "It"), ("failed", "BeforeSuite")):
        verdict = judge(report(SKIPPED, spec("deletes", state, "expected OK", kind), succeeded=False), EXPECTED)
        assert verdict.failed == 1
        assert any("deletes" in problem and "expected OK" in problem for problem in verdict.problems)


def test_a_spec_that_starts_to_be_skipped_fails_the_run() -> None:
    """A skip that is not listed is a problem, even a second one under a listed name."""
    for added in (spec("clones", "skipped", "Volume Cloning not supported"), SKIPPED):
        verdict = judge(report(SKIPPED, added), EXPECTED)
        assert [problem.split(":")[0] for problem in verdict.problems] == ["skipped, though not expected"]


def test_a_skip_for_another_reason_fails_the_run() -> None:
    """The reason is part of the expectation."""
    assert not judge(report(spec("lists volumes", "skipped", "no volumes")), EXPECTED).is_good


def test_a_listed_spec_that_runs_fails_the_run() -> None:
    """The expectation must not outlive its reason."""
    verdict = judge(report(), EXPECTED)
    assert [problem.split(":")[0] for problem in verdict.problems] == ["expected to be skipped, but was not"]


def test_a_report_that_was_cut_short_fails_the_run() -> None:
    """An interrupted suite that saw only passing specs proves nothing; an empty one neither."""
    short = [{"SuiteSucceeded": True, "SpecReports": [SKIPPED, spec("deletes", "passed")]}]
    assert not judge(short, EXPECTED).is_good
    assert not judge([{"SuiteSucceeded": True, "SpecReports": None}], Counter()).is_good
    assert not judge(report(SKIPPED, succeeded=False), EXPECTED).is_good


def test_the_expectation_survives_its_file(tmp_path: Path) -> None:
    """What is printed for committing reads back as the same skips."""
    skips = Counter({("a b", "no X"): 2, ("c", "no X"): 1, ("d: e", "no: Y"): 1})
    file = tmp_path / "skips.yaml"
    file.write_text(as_yaml(skips))
    assert expected_skips(file) == skips


def test_of_a_run_of_a_part_only_that_part_is_judged() -> None:
    """What was not asked for is reported as skipped, without a reason; a part that nothing belongs to is no success."""
    left_out = spec("creates", "skipped")
    left_out["ContainerHierarchyTexts"] = ["GroupController"]
    verdict = judge(report(SKIPPED, left_out), EXPECTED, "Controller")
    assert verdict.is_good
    assert (verdict.passed, verdict.skipped) == (SPECS - 2, EXPECTED)
    assert judge(report(SKIPPED, left_out), EXPECTED, "Node").problems == ("no spec of Node has passed",)
