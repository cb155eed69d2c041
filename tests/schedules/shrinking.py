"""The shortest schedule that still breaks a rule, and how it is written down so that it can be run again."""

import re
from collections.abc import Iterator
from dataclasses import replace

from tests.schedules.schedule import Schedule
from tests.schedules.trial import Outcome, run
from tests.schedules.turns import Turns

_MOST_RUNS = 500


def shrink(schedule: Schedule, turns: Turns, *, clones_format_2: bool) -> Schedule:
    """Fewer operations and switches, as long as the same kind of failure comes of it."""
    first = run(schedule, turns, clones_format_2=clones_format_2).failure
    runs, best = 0, schedule
    is_shorter = True
    while is_shorter and runs < _MOST_RUNS:
        is_shorter = False
        for shorter in _shorter(best):
            runs += 1
            if type(run(shorter, turns, clones_format_2=clones_format_2).failure) is type(first):
                best, is_shorter = shorter, True
                break
            if runs >= _MOST_RUNS:
                break
    return best


def _shorter(schedule: Schedule) -> Iterator[Schedule]:
    """The largest cuts first."""
    operations, switches = schedule.operations, schedule.switches
    for number in range(len(operations) if len(operations) > 1 else 0):
        left = (*operations[:number], *operations[number + 1 :])
        yield replace(schedule, operations=left, first=min(schedule.first, len(left) - 1))
    length = len(switches) // 2
    while length:
        for begin in range(0, len(switches), length):
            yield replace(schedule, switches=(*switches[:begin], *switches[begin + length :]))
        length //= 2
    for number, switch in enumerate(switches):
        if switch.is_long:
            calm = replace(switch, is_long=False)
            yield replace(schedule, switches=(*switches[:number], calm, *switches[number + 1 :]))
    if not schedule.are_entered:
        yield replace(schedule, are_entered=True)


def written(schedule: Schedule) -> str:
    """As Python, for test_examples.py."""
    return re.sub(r"<(\w+\.\w+): '[^']*'>", r"\1", repr(schedule))


def told(outcome: Outcome) -> str:
    """The trace: a line for each turn."""
    lines: list[str] = []
    whose: int | None = -1
    for one, point in outcome.trace:
        if one != whose:
            lines.append("afterwards" if one is None else f"operation {one}")
            whose = one
        lines[-1] += f" {point}"
        if one is None and len(lines[-1]) > 2000:
            lines[-1] += " …"
            break
    return "\n".join(lines)
