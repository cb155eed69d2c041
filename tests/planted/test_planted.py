"""The planted bugs can be planted, and the schedules find them."""

from pathlib import Path

import pytest

from tests.planted.bugs import ROOT, WITHIN, Bug, bugs, plant, try_bug

TRIED = ("deletion-not-looked-for", "writes-swapped")
"""All are tried in `make soak`."""


@pytest.mark.parametrize("bug", bugs(), ids=lambda bug: bug.name)
def test_a_bug_can_be_planted(bug: Bug, tmp_path: Path) -> None:
    """A patch that no longer applies guards nothing."""
    plant(bug, tmp_path)


@pytest.mark.parametrize("bug", [bug for bug in bugs() if bug.name in TRIED], ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug, tmp_path: Path) -> None:
    found = try_bug(bug, tmp_path)
    assert found.is_found, f"{found.after} within {WITHIN} schedules"


def test_the_page_tells_of_each_bug_that_it_is_found() -> None:
    rows = [line.split(" | ") for line in (ROOT / "docs" / "planted-bugs.md").read_text().splitlines() if "`" in line]
    told = {row[0].strip("| `"): row for row in rows if row[0].startswith("| `")}
    assert told.keys() == {bug.name for bug in bugs()}
    for bug in bugs():
        assert told[bug.name][1] == bug.says
        assert "not" not in told[bug.name][2]
