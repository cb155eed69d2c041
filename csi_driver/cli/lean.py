"""A start that loads nothing it has no use for: a restart is a time without answers, and every node has a driver."""

import sys


def import_structlog_alone() -> None:
    """To be called before any module that logs is imported.

    structlog loads rich with all of its parts, if it is installed, for coloured tracebacks. The log has none, and rich is a
    quarter of a start's time. It loads asyncio, too, as gRPC does, which nothing here runs, and asyncio TLS. Whoever asks for
    rich or ssl afterwards has them.
    """
    _import("asyncio", without="ssl")
    _import("structlog", without="rich")


def _import(name: str, *, without: str) -> None:
    """None stands in sys.modules for what cannot be imported (Python's language reference, 5.3.1 The module cache)."""
    if without in sys.modules:
        return
    sys.modules[without] = None  # type: ignore[assignment]
    try:
        __import__(name)
    finally:
        del sys.modules[without]
