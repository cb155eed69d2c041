"""A step of a scenario."""

from collections.abc import Callable

from tests.e2e.bed import Bed

Step = Callable[[Bed], None]
"""Raises AssertionError, which ends the scenario."""
