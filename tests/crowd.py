"""A crowd of clients, each on one cluster through several drivers in turn, and the tally of what they were answered."""

import itertools
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import grpc

from csi_driver.pb import csi_pb2 as pb
from tests.client import Driver, Refusal
from tests.controller.calls import UNFINISHED, Calls

Wanted = TypeVar("Wanted")

_MIB = 1 << 20
_PAUSES_S = (0.5, 3.0)
"""Between the calls of one client, as a sidecar has them; without, deletes outrun the purge behind them."""


@dataclass(frozen=True)
class Answer:
    """One call's: during what it began, how long it took, and its code (OK for one that succeeded)."""

    cluster: str
    during: str
    seconds: float
    code: grpc.StatusCode


@dataclass
class Tally:
    """All answers; `during` is set by whoever makes the trouble."""

    during: str = "calm"
    answers: list[Answer] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    """By client: what it wants now, since when, and what it was answered last."""

    def slowest_s(self) -> float:
        return max(answer.seconds for answer in self.answers)

    def median_s(self, cluster: str, during: str) -> float:
        return statistics.median(a.seconds for a in self.answers if (a.cluster, a.during) == (cluster, during))

    def table(self) -> str:
        """A line for each cluster and trouble: seconds of its calls, and how many of them were to be repeated."""
        lines = [f"{'cluster':8} {'during':20} {'calls':>6} {'median':>7} {'p95':>7} {'most':>7} {'again':>6}"]
        for cluster, during in sorted({(answer.cluster, answer.during) for answer in self.answers}):
            some = [answer for answer in self.answers if (answer.cluster, answer.during) == (cluster, during)]
            seconds = sorted(answer.seconds for answer in some)
            again = sum(answer.code is not grpc.StatusCode.OK for answer in some)
            figures = (statistics.median(seconds), seconds[int(0.95 * (len(seconds) - 1))], seconds[-1])
            told = " ".join(f"{figure:7.2f}" for figure in figures)
            lines.append(f"{cluster:8} {during:20} {len(some):6} {told} {again:6}")
        codes = Counter(answer.code.name for answer in self.answers)
        return "\n".join([*lines, ", ".join(f"{name} {count}" for name, count in codes.most_common())])


class Client:
    """Makes, grows, cuts, copies and deletes on one cluster until it is told to end; leaves nothing."""

    def __init__(
        self, name: str, cluster: str, drivers: Sequence[Driver], secrets: Callable[[], Mapping[str, str]], tally: Tally
    ) -> None:
        self._name = name
        self._cluster = cluster
        self._turns: Iterator[Driver] = itertools.cycle(drivers)
        self._secrets = secrets
        self._tally = tally
        self._chance = random.Random(name)

    def run(self, ended: threading.Event) -> None:
        while not ended.is_set():
            self._round()

    def _round(self) -> None:
        name = self._name
        volume = self._answered(lambda calls: calls.try_create(f"v-{name}", 4 * _MIB), pb.Volume)
        self._answered(lambda calls: calls.expand(volume.volume_id, 8 * _MIB), int)
        snapshot = self._answered(lambda calls: calls.try_snapshot(f"s-{name}", volume.volume_id), pb.Snapshot)
        copy = self._answered(lambda calls: calls.try_create(f"c-{name}", 8 * _MIB, source=snapshot), pb.Volume)
        self._answered(lambda calls: calls.delete(volume.volume_id), type(None))
        self._answered(lambda calls: calls.delete_snapshot(snapshot.snapshot_id), type(None))
        self._answered(lambda calls: calls.delete(copy.volume_id), type(None))

    def _answered(self, call: Callable[[Calls], object], kind: type[Wanted]) -> Wanted:
        wanted, last = f"{kind.__name__} on {self._cluster} since {time.strftime('%X')}", ""
        while True:
            self._tally.waiting[self._name] = f"{wanted} {last}"
            secrets, during, began = self._secrets(), self._tally.during, time.monotonic()
            answer = call(Calls(next(self._turns), secrets, {"clusterID": self._cluster, "pool": "rbd"}))
            code = answer.code if isinstance(answer, Refusal) else grpc.StatusCode.OK
            self._tally.answers.append(Answer(self._cluster, during, time.monotonic() - began, code))
            time.sleep(self._chance.uniform(*_PAUSES_S))
            if isinstance(answer, kind):
                del self._tally.waiting[self._name]
                return answer
            last = str(answer)
            has_new_key = code is grpc.StatusCode.UNAUTHENTICATED and secrets != self._secrets()
            assert code in UNFINISHED or has_new_key, answer
