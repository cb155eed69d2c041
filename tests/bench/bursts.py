"""Many clients at once: creates and deletes per second through the driver and bare, and Probe meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from csi_driver.pb import csi_pb2 as pb
from tests.bench.bed import Bed
from tests.bench.stats import percentile
from tests.rpc.valid_requests import GIB

_PROBE_EVERY_S = 0.02


@dataclass(frozen=True)
class Burst:
    """Operations per second, of so many clients; bare: of as many threads."""

    name: str
    clients: int
    driver_per_s: float
    bare_per_s: float
    probe_p99_ms: float

    @property
    def share(self) -> float:
        return self.driver_per_s / self.bare_per_s

    def values(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "clients": self.clients,
            "driver_per_s": self.driver_per_s,
            "bare_per_s": self.bare_per_s,
            "probe_p99_ms": self.probe_p99_ms,
        }


@dataclass
class _Probes:
    milliseconds: list[float] = field(default_factory=list)


def creates_and_deletes(bed: Bed, clients: int, number: int) -> Iterator[Burst]:
    """`number` volumes in all."""
    names = [f"burst-{clients}-{n}" for n in range(number)]
    bare_s = _seconds(clients, names, lambda name: bed.bare.create(f"bare-{name}"))
    made: list[pb.Volume] = []
    with _probed(bed) as probes:
        driver_s = _seconds(clients, names, lambda name: made.append(bed.calls.create_until_done(name, GIB)))
    yield Burst("create", clients, number / driver_s, number / bare_s, percentile(probes.milliseconds, 99))
    bare_s = _seconds(clients, names, lambda name: bed.bare.delete(f"bare-{name}"))
    bed.settle()
    with _probed(bed) as probes:
        driver_s = _seconds(clients, made, lambda volume: bed.calls.delete_until_done(volume.volume_id))
    yield Burst("delete", clients, number / driver_s, number / bare_s, percentile(probes.milliseconds, 99))
    bed.settle()


def _seconds(clients: int, things: list[Any], work: Callable[[Any], object]) -> float:
    with ThreadPoolExecutor(clients) as threads:
        began = time.perf_counter()
        list(threads.map(work, things))
        return time.perf_counter() - began


@contextmanager
def _probed(bed: Bed) -> Iterator[_Probes]:
    """Probe is asked again and again while the burst lasts."""
    probes, ended = _Probes(), threading.Event()

    def ask() -> None:
        while not ended.wait(_PROBE_EVERY_S):
            began = time.perf_counter()
            bed.driver.rpc.identity.Probe(pb.ProbeRequest(), timeout=30)
            probes.milliseconds.append((time.perf_counter() - began) * 1000)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield probes
    finally:
        ended.set()
        thread.join()
