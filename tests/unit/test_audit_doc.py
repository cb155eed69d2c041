"""docs/audit.md tells every class of finding as the program does."""

from pathlib import Path

from csi_driver.operations.audit.findings import ABOUT

_PAGE = Path(__file__).parents[2] / "docs" / "audit.md"


def test_every_class_is_on_the_page_with_its_cause_and_its_repair() -> None:
    rows = {line for line in _PAGE.read_text().splitlines() if line.startswith("| `")}
    expected = set()
    for what, about in ABOUT.items():
        remedy = about.remedy or "none: a person is needed"
        expected.add(f"| `{what}` | {about.cause} | {remedy}{'; only with `--name`' if about.is_named_only else ''} |")
    assert rows == expected
