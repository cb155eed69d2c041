"""What a driver shows of itself where it is asked for: traces in a file or to a collector, metrics. Loaded only then."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from csi_driver import VERSION, tracing
from csi_driver.config import ConfigError, ServeConfig

if TYPE_CHECKING:
    from csi_driver.observing.metrics import State

log = structlog.get_logger(__name__)


def trace(config: ServeConfig) -> list[Callable[[], None]]:
    """What has to be called at the end. Raises ConfigError for a file that cannot be opened."""
    if config.trace_file:
        from csi_driver.observing.trace_file import TraceFile  # noqa: PLC0415 - only where it is asked for

        try:
            tracing.observers.append(TraceFile(config.trace_file))
        except OSError as error:
            raise ConfigError(f"--trace {config.trace_file}: {error.strerror}") from error
    if not config.otlp_endpoint:
        return []
    from csi_driver.observing.otlp import OtlpTraces  # noqa: PLC0415 - likewise

    told = {"service.name": config.driver_name, "service.instance.id": config.node_id}
    traces = OtlpTraces(config.otlp_endpoint, {**told, "service.version": VERSION})
    tracing.observers.append(traces)
    traces.start()
    return [traces.stop]


def serve_metrics(address: tuple[str, int], state: "State") -> None:
    """Raises ConfigError for an address that cannot be served."""
    from csi_driver.observing.metrics import Metrics  # noqa: PLC0415 - likewise

    metrics = Metrics(state)
    tracing.observers.append(metrics)
    host, port = address
    try:
        port = metrics.serve(host, port)
    except OSError as error:
        raise ConfigError(f"--metrics-address {host}:{port}: {error.strerror}") from error
    log.info("serving metrics", host=host, port=port)
