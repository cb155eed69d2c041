"""A start that loads nothing it has no use for: every restart of a driver is a time without answers."""

import sys


def import_structlog_alone() -> None:
    """To be called before any module that logs is imported.

    structlog loads rich with all of its parts, if it is installed, for coloured tracebacks. The log has none, and rich is a
    quarter of a start's time. A name that stands for nothing in sys.modules is one that cannot be imported (Python's language
    reference, 5.3.1 The module cache).
    """
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401, PLC0415
    finally:
        del sys.modules["rich"]
