"""A start loads nothing that it has no use for."""

import subprocess
import sys

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
