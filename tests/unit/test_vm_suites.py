"""What a suite of the virtual machine is taken for, by its reports and its exit code."""

from pathlib import Path

import pytest

from tests.vm.suites import SUITES, Outcome, Suite, table

KRBD, NBD, SANITY = SUITES


def outcome(box: Path, suite: Suite, code: int = 0, **counts: int) -> Outcome:
    words = " ".join(f'{name}="{count}"' for name, count in counts.items())
    (box / "report.xml").write_text(f"<testsuites><testsuite {words}></testsuite></testsuites>")
    return suite.outcome(box, code, 12.3)


def test_a_suite_passes_when_all_that_ran_did(tmp_path: Path) -> None:
    found = outcome(tmp_path, KRBD, tests=5, failures=0, errors=0, skipped=0)
    assert (found.passed, found.failed, found.verdict) == (5, 0, "passed")
    found = outcome(tmp_path, NBD, 1, tests=5, failures=1, errors=2, skipped=1)
    assert (found.passed, found.failed, found.verdict) == (1, 3, "failed (1)")


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_without_a_report_fails_whatever_its_exit_code_says(tmp_path: Path, suite: Suite) -> None:
    assert suite.outcome(tmp_path, 0, 1).verdict == "failed (0)"
    assert suite.outcome(tmp_path, 124, 1).verdict == "not done in time"


def test_the_table_has_a_line_for_each_suite(tmp_path: Path) -> None:
    found = outcome(tmp_path, KRBD, tests=5, failures=0, errors=0, skipped=0)
    assert table([found]).splitlines()[1].split() == ["krbd", "5", "0", "12", "passed"]
