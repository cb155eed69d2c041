"""Histories that once broke a rule, in their shortest form."""

import pytest

from csi_driver.model import FlattenMode
from tests.simulation.ending import end
from tests.simulation.machine import History
from tests.simulation.steps import (
    Crash,
    Create,
    Delete,
    DeleteSnapshot,
    Expand,
    Flatten,
    Meanwhile,
    Snapshot,
    Step,
    Sweep,
    Wait,
    Write,
)
from tests.simulation.virtual import virtual_world
from tests.simulation.world import MemoryWorld

EXAMPLES = {
    "a copy of a volume whose growth was cut short is answered with its true size": [
        Step(Create(0)),
        Step(Expand(0), fault=Crash("images.grow:after")),
        Step(Create(1, source=0)),
    ],
    "of two expansions at once the larger is recorded": [
        Step(Create(0)),
        Step(Expand(0), fault=Meanwhile("images.grow:after", Expand(0))),
        Step(Expand(0)),
    ],
    "a volume is deleted while its last snapshot is": [
        Step(Create(0)),
        Step(Snapshot(0, 0)),
        Step(Delete(0), fault=Meanwhile("images.inspect:after", DeleteSnapshot(0))),
    ],
    "a snapshot is deleted while a flatten that was cut short keeps its volume from being opened": [
        Step(Create(0)),
        Step(Create(1, source=0, mode=FlattenMode.ALWAYS)),
        Step(Snapshot(0, 1)),
        Step(Flatten(), fault=Crash("images.flatten:unlinked")),
        Step(DeleteSnapshot(0)),
        Step(Wait()),
        Step(Flatten()),
        Step(Delete(1)),
    ],
    "a volume is deleted whose flatten was cut short, and a snapshot of it lives": [
        Step(Create(0)),
        Step(Snapshot(0, 0)),
        Step(Create(1, source=1, mode=FlattenMode.ALWAYS)),
        Step(Flatten(), fault=Crash("images.flatten:delisted")),
        Step(Snapshot(1, 1)),
        Step(Delete(1)),
        Step(Wait()),
        Step(Flatten()),
        Step(DeleteSnapshot(0)),
        Step(Sweep()),
    ],
    "a volume is deleted while the flatten of its ancestor is cut short": [
        Step(Create(0)),
        Step(Create(1, source=0, mode=FlattenMode.ALWAYS)),
        Step(Create(2, source=1, mode=FlattenMode.NEVER)),
        Step(Flatten(), fault=Crash("images.flatten:unlinked")),
        Step(Expand(2)),
    ],
    "a snapshot of a volume whose flatten was cut short waits for the repair": [
        Step(Create(0)),
        Step(Create(1, source=0, mode=FlattenMode.ALWAYS)),
        Step(Flatten(), fault=Crash("images.flatten:unlinked")),
        Step(Snapshot(0, 1)),
    ],
    "a snapshot is cut of a volume that a flatten cut short has taken off its parent's list": [
        Step(Create(0)),
        Step(Create(1, source=0, has_deep_flatten=False, mode=FlattenMode.ALWAYS)),
        Step(Write(1, 0, 1)),
        Step(Flatten(), fault=Crash("images.flatten:delisted")),
        Step(Snapshot(0, 1)),
        Step(Wait()),
        Step(Flatten()),
        Step(Delete(0)),
        Step(Sweep()),
        Step(Sweep()),
    ],
}


@pytest.mark.parametrize("steps", EXAMPLES.values(), ids=EXAMPLES)
def test_a_history_that_broke_a_rule_breaks_none(steps: list[Step]) -> None:
    with virtual_world() as clock:
        history = History(MemoryWorld(clock))
        history.live(steps)
        assert history.taken == len(steps)
        end(history, order=0)
