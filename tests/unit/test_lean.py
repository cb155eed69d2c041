"""A start loads nothing that it has no use for."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from csi_driver import VERSION

_ALONE = """
import sys
from csi_driver.cli.lean import import_structlog_alone
import_structlog_alone()
import structlog
assert "rich" not in sys.modules
import rich.console, csi_driver.logs
csi_driver.logs.set_up("info", "text")
try:
    raise ValueError("told")
except ValueError:
    structlog.get_logger().exception("failed")
"""


_HALVES = {
    "controller": ("csi_driver.operations.creation", "csi_driver.operations.node"),
    "node": ("csi_driver.operations.node", "csi_driver.operations.creation"),
}
"""A module that each loads, and one that it has no use for."""

_USELESS = {"asyncio.sslproto": "ssl", "structlog": "rich.console", "csi_driver": "importlib.metadata"}
"""By what would load it."""


@pytest.mark.parametrize("half", _HALVES)
def test_a_half_loads_neither_the_other_nor_what_its_libraries_have_for_others(half: str) -> None:
    names = ("csi_driver.__main__", "csi_driver.cli.serve", "csi_driver.cli.assembly", f"csi_driver.cli.{half}_half")
    lines = ["import sys", "from csi_driver.cli.lean import import_structlog_alone", "import_structlog_alone()"]
    lines += [f"import {name}" for name in names] + ["print(*sys.modules)"]
    command = (sys.executable, "-c", "; ".join(lines))
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    loaded, (used, unused) = set(ended.stdout.split()), _HALVES[half]
    assert {used, *_USELESS} <= loaded
    assert not {unused, *_USELESS.values()} & loaded


def test_the_version_is_that_of_the_package() -> None:
    assert version("rbd-csi") == VERSION


def test_the_driver_starts_without_rich() -> None:
    """And without gRPC, as long as only help is asked for."""
    command = (sys.executable, "-X", "importtime", "-m", "csi_driver", "serve", "--help")
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert "--node-id" in ended.stdout
    loaded = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert {"structlog", "structlog.dev"} <= loaded
    assert not {"rich.console", "grpc"} & loaded


def test_rich_is_there_for_those_who_ask_for_it_and_errors_are_logged_without() -> None:
    ended = subprocess.run((sys.executable, "-c", _ALONE), check=True, capture_output=True, text=True, timeout=120)
    assert "ValueError: told" in ended.stderr
