"""A run of many histories, drawn and shrunk by Hypothesis, the same for the same seed."""

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.simulation.ending import end
from tests.simulation.kms import MemoryKms
from tests.simulation.machine import History
from tests.simulation.steps import Step, histories
from tests.simulation.virtual import virtual_world
from tests.simulation.world import MemoryWorld

LENGTH = 100
_BATCH = 20


class Run:
    """Counts the steps that found something to do. failed_after: those until the first failure, before it is shrunk."""

    def __init__(self, chosen: int, *, clones_format_2: bool = True, shrinks: bool = True) -> None:
        self.steps = 0
        self.failed_after: int | None = None
        self._seed = chosen
        self._clones_format_2 = clones_format_2
        self._phases = (Phase.generate, Phase.shrink) if shrinks else (Phase.generate,)

    def until(self, steps: int) -> None:
        """Histories until so many steps are taken. Raises the first failure, with the shortest history that shows it."""
        for batch in range(self._seed, self._seed + 1 + steps):
            self._batch(batch)
            if self.steps >= steps:
                return

    def _batch(self, chosen: int) -> None:
        @seed(chosen)
        @settings(
            max_examples=_BATCH,
            phases=self._phases,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(history=histories(LENGTH), order=st.integers(0, 1 << 16))
        def lives(history: list[Step], order: int) -> None:
            self._live(history, order)

        lives()

    def _live(self, steps: list[Step], order: int) -> None:
        with virtual_world() as clock:
            history = History(MemoryWorld(clock, clones_format_2=self._clones_format_2, kms=MemoryKms()))
            try:
                history.live(steps)
                self.steps += history.taken
                end(history, order)
            except Exception:
                if self.failed_after is None:
                    self.failed_after = self.steps + history.taken
                raise
