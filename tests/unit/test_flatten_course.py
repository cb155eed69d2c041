"""How fast a flatten goes, and when it is broken off."""

import time
from collections.abc import Callable

import pytest

from csi_driver.errors import ClusterTimeout
from csi_driver.operations.flatten_course import MIB, Course, FlattenSettings, Verdict

SIZE = 64 * MIB


def seconds_of(settings: FlattenSettings, first: Verdict) -> float:
    """How long 16 steps through an image of 64 MiB take."""
    course = Course(settings, SIZE, lambda: first, lambda _part: None)
    began = time.monotonic()
    with course.looked_after(first):
        assert all(course.told(done / 16) for done in range(1, 17))
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("settings", "first", "at_least_s"),
    [
        (FlattenSettings(rate_mib=0, rate_in_use_mib=1), Verdict.GO_ON, 0.0),
        (FlattenSettings(rate_mib=128, rate_in_use_mib=1), Verdict.GO_ON, 0.5),
        (FlattenSettings(rate_mib=0, rate_in_use_mib=64), Verdict.GO_SLOWLY, 1.0),
        (FlattenSettings(rate_mib=1, rate_in_use_mib=0), Verdict.GO_SLOWLY, 0.0),
    ],
)
def test_no_more_of_an_image_is_passed_than_its_rate_allows(
    settings: FlattenSettings, first: Verdict, at_least_s: float
) -> None:
    assert seconds_of(settings, first) >= at_least_s * 0.99


def test_a_look_that_says_stop_ends_it() -> None:
    course = Course(FlattenSettings(), SIZE, lambda: Verdict.STOP, lambda _part: None)
    with course.looked_after(Verdict.GO_ON):
        assert course.told(0.25)
        await_true(lambda: not course.told(0.25))


def test_how_far_it_is_is_told_now_and_then() -> None:
    told: list[float] = []
    course = Course(FlattenSettings(), SIZE, lambda: Verdict.GO_ON, told.append)
    with course.looked_after(Verdict.GO_ON):
        assert course.told(0.25)
        await_true(lambda: bool(told))
    assert told[0] == 0.25
    assert course.has_told


def await_true(is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_a_look_that_fails_stops_nothing() -> None:
    looks: list[int] = []

    def look() -> Verdict:
        looks.append(1)
        raise ClusterTimeout("no answer")

    course = Course(FlattenSettings(), SIZE, look, lambda _part: None)
    with course.looked_after(Verdict.GO_ON):
        await_true(lambda: bool(looks))
        assert course.told(0.5)
