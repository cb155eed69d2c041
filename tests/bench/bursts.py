"""Many clients at once: creates and deletes per second through the driver and bare, each beside the same Probes."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from csi_driver.pb import csi_pb2 as pb
from tests.bench.bed import Bed
from tests.bench.probes import probed
from tests.bench.stats import percentile
from tests.rpc.valid_requests import GIB


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


def creates_and_deletes(bed: Bed, clients: int, number: int) -> Iterator[Burst]:
    """`number` volumes in all."""
    names = [f"burst-{clients}-{number}-{n}" for n in range(number)]
    made: list[pb.Volume] = []
    with probed(bed.driver.socket):
        bare_s = _seconds(clients, names, lambda name: bed.bare.create(f"bare-{name}"))
    with probed(bed.driver.socket) as probes:
        driver_s = _seconds(clients, names, lambda name: made.append(bed.calls.create_until_done(name, GIB)))
    yield Burst("create", clients, number / driver_s, number / bare_s, percentile(probes.milliseconds, 99))
    with probed(bed.driver.socket):
        bare_s = _seconds(clients, names, lambda name: bed.bare.delete(f"bare-{name}"))
    bed.settle()
    with probed(bed.driver.socket) as probes:
        driver_s = _seconds(clients, made, lambda volume: bed.calls.delete_until_done(volume.volume_id))
    yield Burst("delete", clients, number / driver_s, number / bare_s, percentile(probes.milliseconds, 99))
    bed.settle()


def _seconds(clients: int, things: list[Any], work: Callable[[Any], object]) -> float:
    with ThreadPoolExecutor(clients) as threads:
        began = time.perf_counter()
        list(threads.map(work, things))
        return time.perf_counter() - began
