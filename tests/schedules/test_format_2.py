"""Schedules with clones of format 2."""

import pytest

from tests.schedules.share import check_half, timeout_s


@pytest.mark.timeout(timeout_s())
def test_no_schedule_breaks_a_rule() -> None:
    """After each everything was answered and is as promised, then everything is deleted and nothing is left."""
    check_half(clones_format_2=True)
