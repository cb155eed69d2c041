"""The end of each history: everything is deleted by repeated calls, and then nothing may be left in the pool."""

import random

from tests.simulation import steps as do
from tests.simulation.invariants import Broken
from tests.simulation.machine import WAIT_S, History
from tests.simulation.model import KnownVolume, Life

_ROUNDS = 40
"""More than any unfinished call needs, with time passing in between."""


def end(history: History, order: int) -> None:
    """Delete in an order that the number decides. Raises Broken."""
    shuffle = random.Random(order).shuffle
    for number in range(_ROUNDS):
        by = number % 2
        calls = _calls(history)
        shuffle(calls)
        if not calls and not history.world.leftovers():
            return
        history.live([do.Step(action, by) for action in (*calls, do.Flatten(), do.Sweep())])
        history.world.wait(WAIT_S)
    left = [*history.world.leftovers(), *(one.life.name for one in history.model.everything)]
    raise Broken(f"after the end of all volumes and snapshots there is still {left}")


def _calls(history: History) -> list[do.Action]:
    """What is still to be asked for: again what was not answered, and the end of all else."""
    calls: list[do.Action] = []
    volumes = [one for one in history.model.volumes.values() if one.life in (Life.LIVE, Life.DELETING)]
    calls += [do.Attach(number) for number, one in enumerate(_living(history)) if one.is_attached]
    if calls:
        return calls
    calls += [do.Delete(number) for number in range(len(volumes))]
    calls += [do.DeleteSnapshot(number) for number in range(len(history.model.snapshots))]
    calls += [do.Create(int(n[7:])) for n, one in history.model.volumes.items() if one.life is Life.PENDING]
    calls += [do.Snapshot(int(n[9:]), 0) for n, one in history.model.snapshots.items() if one.life is Life.PENDING]
    return calls


def _living(history: History) -> list[KnownVolume]:
    return [one for one in history.model.volumes.values() if one.life is Life.LIVE]
