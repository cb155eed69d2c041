"""Numbers of a series of times, and how sure they are. Times are in milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_RESAMPLES = 2000
_SEED = 1


@dataclass(frozen=True)
class Interval:
    """A value and the interval that holds it with 95 % confidence (bootstrap)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass
class Series:
    """One operation's times through the driver, and bare; `bare` is empty where nothing can be compared."""

    name: str
    driver: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)

    def ratio(self) -> Interval | None:
        """Of the medians."""
        return ratio_of_medians(self.driver, self.bare) if self.bare else None

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"name": self.name, "driver": self.driver, "bare": self.bare}


def percentile(times: Sequence[float], q: float) -> float:
    return float(np.percentile(times, q)) if times else float("nan")


def ratio_of_medians(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    random = np.random.default_rng(_SEED)
    value = float(np.median(ours) / np.median(theirs))
    medians = [
        np.median(random.choice(ours, len(ours))) / np.median(random.choice(theirs, len(theirs)))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(medians, [2.5, 97.5])
    return Interval(value, float(low), float(high))
