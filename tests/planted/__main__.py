"""Tries planted bugs and prints the table."""

import re
import sys
import tempfile
from pathlib import Path

from tests.planted.bugs import ROOT, SEEDS, WITHIN, Found, bugs, try_bug

_PAGE = ROOT / "docs" / "planted-bugs.md"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{12}\b")


def main() -> None:
    names = [name for name in sys.argv[1:] if not name.startswith("-")]
    found: list[Found] = []
    for bug in bugs():
        if names and bug.name not in names:
            continue
        with tempfile.TemporaryDirectory() as copy:
            found.append(try_bug(bug, Path(copy)))
        print(f"{bug.name:24} {found[-1].after} {found[-1].by[:160]}", flush=True)  # noqa: T201
    if "--write" in sys.argv:
        _PAGE.write_text(_page(found))
    missed = [one.bug.name for one in found if not one.is_found]
    if missed or not found:
        sys.exit(f"not found within {WITHIN} schedules: {missed or names}")


def _page(found: list[Found]) -> str:
    lines = [
        "# Planted bugs",
        "",
        "What the schedules (`tests/schedules`) must find. Each is a patch in `tests/planted`, applied to a copy of the",
        f"tree; the numbers are schedules until a rule was broken, from seed {SEEDS[0]} and from seed {SEEDS[1]:,}.",
        "Written by `.venv/bin/python -m tests.planted --write`; two are tried in each `make test`, all in `make soak`.",
        "",
        "| patch | what it breaks | found after | by |",
        "| --- | --- | --- | --- |",
    ]
    for one in found:
        after = " / ".join("not" if number is None else f"{number:,}" for number in one.after)
        by = _UUID.sub("…", one.by.replace("|", "\\|"))[:110]
        lines.append(f"| `{one.bug.name}` | {one.bug.says} | {after} | {by} |")
    return "\n".join(lines) + "\n"


main()
