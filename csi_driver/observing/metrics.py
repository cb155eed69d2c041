"""`--metrics-address HOST:PORT`: Prometheus metrics at /metrics, and /healthz and /readyz.

/healthz answers as long as the process does: a cluster that is away is no reason to end the driver. /readyz answers 503 with
the reason while no cluster can be reached, as Probe does. A scrape asks nothing of Ceph, and never waits for it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    make_wsgi_app,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from csi_driver.tracing import Call, StepEnd

_CALL_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_CEPH = ("objects.", "images.", "cluster.", "ancestry.", "groups.")
"""Steps that are calls to Ceph: the others are made of them."""


@dataclass(frozen=True)
class State:
    """What is asked at each scrape; each answers at once.

    running: calls under way by gate · held: how long each held lock has been held, in seconds · backlog: what waits for
    purge and flatten, by task, cluster and pool · clusters: whether each can be reached · reason: why the driver
    is not ready; empty when it is
    · pools: free and stored bytes by cluster and pool
    """

    running: Callable[[], dict[str, int]]
    held: Callable[[], list[float]]
    backlog: Callable[[], dict[tuple[str, str, str], int]]
    clusters: Callable[[], dict[str, bool]]
    reason: Callable[[], str]
    pools: Callable[[], dict[tuple[str, str], tuple[int, int]]]


class Metrics:
    """An observer, and what is scraped of it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.registry = CollectorRegistry()
        self._calls = Histogram(
            "rbd_csi_call_seconds",
            "Time until an RPC was answered, by method and status code.",
            ("method", "code"),
            buckets=_CALL_SECONDS,
            registry=self.registry,
        )
        self._steps = Histogram(
            "rbd_csi_ceph_call_seconds",
            "Time of one call to Ceph, by what it does and how it ended.",
            ("operation", "result"),
            buckets=_CALL_SECONDS,
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(_StateCollector(state))

    def step_ended(self, ended: StepEnd) -> None:
        if ended.name.startswith(_CEPH):
            result = type(ended.error).__name__ if ended.error else "ok"
            self._steps.labels(ended.name, result).observe(ended.seconds)

    def call_ended(self, call: Call, code: str, seconds: float) -> None:
        self._calls.labels(call.method, code).observe(seconds)

    def serve(self, host: str, port: int) -> int:
        """In threads of its own; the port, where it was left open with 0. Raises OSError."""
        server, _ = start_http_server(port, addr=host, registry=self.registry)
        server.set_app(self._app())
        return int(server.server_port)

    def _app(self) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
        scraped = make_wsgi_app(self.registry)

        def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                answer: Iterable[bytes] = scraped(environ, start_response)
                return answer
            status, text = self._health(path)
            start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
            return [text.encode()]

        return app

    def _health(self, path: str) -> tuple[str, str]:
        if path == "/healthz":
            return "200 OK", "ok\n"
        if path != "/readyz":
            return "404 Not Found", "there are /metrics, /healthz and /readyz\n"
        reason = self._state.reason()
        return ("503 Service Unavailable", f"{reason}\n") if reason else ("200 OK", "ok\n")


class _StateCollector:
    """What is so at the moment of the scrape."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        running = GaugeMetricFamily(
            "rbd_csi_calls_running", "Calls under way, by the gate they run behind.", labels=["gate"]
        )
        for gate, number in self._state.running().items():
            running.add_metric([gate], number)
        yield running
        held = self._state.held()
        yield GaugeMetricFamily("rbd_csi_locks_held", "Names and volumes that a call works on.", value=len(held))
        yield GaugeMetricFamily(
            "rbd_csi_lock_oldest_seconds", "How long the oldest of them has been held.", value=max(held, default=0)
        )
        backlog = GaugeMetricFamily(
            "rbd_csi_backlog", "What waits for purge or flatten.", labels=["task", "cluster", "pool"]
        )
        for place, number in self._state.backlog().items():
            backlog.add_metric(list(place), number)
        yield backlog
        clusters = GaugeMetricFamily("rbd_csi_cluster_up", "Whether a cluster can be reached.", labels=["cluster"])
        for cluster_id, is_up in self._state.clusters().items():
            clusters.add_metric([cluster_id], is_up)
        yield clusters
        free, stored = (
            GaugeMetricFamily(f"rbd_csi_pool_{what}_bytes", told, labels=["cluster", "pool"])
            for what, told in (
                ("free", "What can still be stored in a pool, redundancy and quota taken off."),
                ("stored", "What is stored in a pool."),
            )
        )
        for pool, (free_bytes, stored_bytes) in self._state.pools().items():
            free.add_metric(list(pool), free_bytes)
            stored.add_metric(list(pool), stored_bytes)
        yield free
        yield stored
