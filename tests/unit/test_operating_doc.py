"""docs/operating.md tells every flag of `rbd-csi serve`, with the default that it has."""

import re
from pathlib import Path

import click

from csi_driver.cli.serve import serve

_PAGE = Path(__file__).parents[2] / "docs" / "operating.md"
_ROW = re.compile(r"^\| `(--[a-z-]+)` \| .* \| (.*?) ?\|$", re.MULTILINE)


def _rows() -> dict[str, str]:
    """The default's cell by flag."""
    return dict(_ROW.findall(_PAGE.read_text()))


def _options() -> dict[str, click.Option]:
    return {one.opts[0]: one for one in serve.params if isinstance(one, click.Option)}


def test_every_flag_of_serve_is_on_the_page_and_no_other() -> None:
    assert set(_rows()) == {*_options(), "--help"}


def test_required_flags_are_said_to_be() -> None:
    required = {flag for flag, cell in _rows().items() if cell == "required"}
    assert required == {flag for flag, option in _options().items() if option.required}


def test_defaults_on_the_page_are_those_of_the_flags() -> None:
    rows = _rows()
    named = {flag: option for flag, option in _options().items() if not (option.is_flag or option.required)}
    for flag, option in named.items():
        if option.default is None:
            assert rows[flag] == "none", flag
        elif not option.multiple:
            assert rows[flag] == f"`{option.default}`", flag


def test_every_choice_of_a_flag_is_on_the_page() -> None:
    text = _PAGE.read_text()
    for flag, option in _options().items():
        if isinstance(option.type, click.Choice):
            (row,) = re.findall(rf"^\| `{flag}` .*$", text, re.MULTILINE)
            assert all(f"`{choice}`" in row for choice in option.type.choices), flag
