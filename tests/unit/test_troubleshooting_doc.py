"""docs/troubleshooting.md quotes what the driver says: each text stands in its source."""

import re
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DOC = PROJECT / "docs" / "troubleshooting.md"


def quoted() -> list[str]:
    """The texts of each row's first cell."""
    rows = [line for line in DOC.read_text().splitlines() if line.startswith("| `")]
    return [text for row in rows for text in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


@cache
def said() -> str:
    """The sources, with literals that go on in the next line made one."""
    text = "\n".join(path.read_text() for path in (PROJECT / "csi_driver").rglob("*.py"))
    return re.sub(r'"\s*\n\s*f?"', "", text)


def test_there_are_texts() -> None:
    assert len(quoted()) > 20


@pytest.mark.parametrize("text", quoted())
def test_a_text_is_one_that_the_driver_says(text: str) -> None:
    assert text in said()
