"""Takes many schedules, one number after another, and tells what was met."""

import time
from collections import Counter
from dataclasses import dataclass, field

from tests.schedules.faults import Kind
from tests.schedules.schedule import Schedule, Target, draw, targets
from tests.schedules.shrinking import shrink, told, written
from tests.schedules.trial import Outcome, run
from tests.schedules.turns import Turns


@dataclass
class Taken:
    """different: schedules that were struck and went another way than all before. taken: all."""

    clones_format_2: bool
    taken: int = 0
    seconds: float = 0.0
    struck: Counter[Target] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    failed: Schedule | None = None
    failure: BaseException | None = None
    _ways: set[int] = field(default_factory=set)

    @property
    def different(self) -> int:
        return len(self._ways)

    @property
    def missed(self) -> list[Target]:
        return sorted(targets(clones_format_2=self.clones_format_2).keys() - self.struck.keys())

    def add(self, outcome: Outcome) -> None:
        self.taken += 1
        self.repaired.update(outcome.repaired)
        if outcome.struck is not None:
            self.struck[outcome.struck] += 1
            self._ways.add(hash((outcome.struck, *outcome.trace)))

    def table(self) -> str:
        """How often each fault struck before, after and within each call; a dash where it cannot."""
        reachable = targets(clones_format_2=self.clones_format_2)
        lines = [f"{'':38}" + "".join(f"{kind.value:>20}" for kind in Kind)]
        for point in sorted({point for point, _ in reachable}):
            cells = (str(self.struck[point, kind]) if (point, kind) in reachable else "–" for kind in Kind)
            lines.append(f"{point:38}" + "".join(f"{cell:>20}" for cell in cells))
        return "\n".join(lines)

    def summary(self) -> str:
        rate = self.taken / self.seconds if self.seconds else 0.0
        repaired = ", ".join(f"{what} {number}" for what, number in sorted(self.repaired.items())) or "nothing"
        return (
            f"{self.different} different schedules of {self.taken} in {self.seconds:.1f} s, {rate:.0f} a second; "
            f"{len(self.struck)} of {len(self.struck) + len(self.missed)} points and faults; "
            f"left for the audit by writes that came late: {repaired}"
        )


def take(seed: int, count: int, *, clones_format_2: bool, most: int | None = None) -> Taken:
    """Until so many were different, or `most` were taken, or one broke a rule."""
    turns, taken = Turns(), Taken(clones_format_2)
    began = time.perf_counter()
    while taken.different < count and (most is None or taken.taken < most):
        schedule = draw(seed + taken.taken, clones_format_2=clones_format_2)
        outcome = run(schedule, turns, clones_format_2=clones_format_2)
        taken.add(outcome)
        if outcome.failure is not None:
            taken.failed, taken.failure = schedule, outcome.failure
            break
    taken.seconds = time.perf_counter() - began
    return taken


def explained(taken: Taken) -> str:
    """The schedule that broke a rule, in its shortest form, and its trace."""
    assert taken.failed
    turns, formats = Turns(), taken.clones_format_2
    shortest = shrink(taken.failed, turns, clones_format_2=formats)
    outcome = run(shortest, turns, clones_format_2=formats)
    return (
        f"schedule {taken.taken} broke a rule: {taken.failure!r}\n{written(shortest)}\n"
        f"clones_format_2={formats}: {outcome.failure!r}\n{told(outcome)}"
    )
