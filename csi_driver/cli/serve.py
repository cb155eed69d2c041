"""`rbd-csi serve`: flags to configuration, configuration to objects, and the process from its start to its end."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import structlog

from csi_driver import VERSION, failpoints, logs
from csi_driver.cli.allocator import keep_few_arenas
from csi_driver.config import (
    DEFAULT_CLUSTERS_FILE,
    DEFAULT_DRIVER_NAME,
    DEFAULT_KMS_FILE,
    ClustersFile,
    ConfigError,
    ServeConfig,
    parse_address,
    parse_url,
)
from csi_driver.node_place import parse_crush_location, parse_topology, parse_topology_labels

log = structlog.get_logger(__name__)

_GRACE_S = 20.0
"""How long calls under way may take to end after SIGTERM; Kubernetes gives a pod 30 s."""


@click.command()
@click.option("--endpoint", envvar="CSI_ENDPOINT", required=True, metavar="unix://SOCK", help="Where to serve.")
@click.option("--node-id", required=True, metavar="NAME", help="This node's name.")
@click.option("--controller", is_flag=True, help="Run the controller half (both when neither is named).")
@click.option("--node", is_flag=True, help="Run the node half.")
@click.option("--driver-name", default=DEFAULT_DRIVER_NAME, show_default=True)
@click.option("--clusters", type=click.Path(path_type=Path), default=DEFAULT_CLUSTERS_FILE, show_default=True)
@click.option(
    "--cluster-mapping",
    default=None,
    type=click.Path(path_type=Path),
    help="Handles of clusters that others stand in for, as cluster-mapping.json of the Go driver.",
)
@click.option(
    "--kms-config",
    type=click.Path(path_type=Path),
    default=DEFAULT_KMS_FILE,
    show_default=True,
    help="Who keeps keys of encrypted volumes, as kms-config.json of the Go driver.",
)
@click.option("--instance", default="default", show_default=True, help="Name of the journal's directory.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds for one whole RPC.")
@click.option("--max-volumes-per-node", type=int, default=0, help="0: no limit.")
@click.option("--flatten-at-once", type=int, default=1, show_default=True, help="Images of a pool; 0: none.")
@click.option(
    "--flatten-rate", type=float, default=0.0, show_default=True, help="MiB a second of an image; 0: no limit."
)
@click.option(
    "--flatten-rate-in-use", type=float, default=16.0, show_default=True, help="Of one that a client has open."
)
@click.option("--topology", is_flag=True, help="Offer the topology capabilities (the same in every instance).")
@click.option("--node-topology", multiple=True, metavar="KEY=VALUE", help="A segment of this node's topology.")
@click.option(
    "--node-topology-label", multiple=True, metavar="KEY=LABEL", help="One whose value is the Kubernetes node's label."
)
@click.option(
    "--crush-location",
    multiple=True,
    metavar="TYPE=NAME",
    help="A CRUSH bucket that this node is in, for readAffinity of the clusters file.",
)
@click.option(
    "--fence-gone-nodes", is_flag=True, help="Cut nodes that are out of service off from what is withdrawn from them."
)
@click.option(
    "--metrics-address", default=None, metavar="HOST:PORT", help="Serve /metrics, /healthz and /readyz there."
)
@click.option(
    "--trace",
    default=None,
    type=click.Path(path_type=Path),
    help="Write every call and step to this file, for trace viewers.",
)
@click.option("--otlp-endpoint", default=None, metavar="URL", help="Send traces to this OpenTelemetry collector.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def serve(**flags: Any) -> None:
    """Serve CSI on a UNIX socket."""
    keep_few_arenas()
    logs.set_up(flags["log_level"], flags["log_format"])
    try:
        failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
        run(_configuration(flags))
    except (ConfigError, ValueError) as error:
        raise MisconfiguredError(str(error)) from error


class MisconfiguredError(click.ClickException):
    """One line on stderr, exit code 2."""

    exit_code = 2


def _configuration(flags: dict[str, Any]) -> ServeConfig:
    from csi_driver.rpc.socket import parse_endpoint  # noqa: PLC0415 - `rbd-csi --help` needs no gRPC

    both = flags["controller"] == flags["node"]
    topology = parse_topology(flags["node_topology"])
    labels = parse_topology_labels(flags["node_topology_label"], topology)
    if flags["topology"] and not topology and not labels:
        topology = {f"topology.{flags['driver_name']}/node": flags["node_id"]}
    return ServeConfig(
        socket_path=parse_endpoint(flags["endpoint"]),
        node_id=flags["node_id"],
        controller=both or flags["controller"],
        node=both or flags["node"],
        driver_name=flags["driver_name"],
        clusters_file=flags["clusters"],
        instance=flags["instance"],
        timeout_s=flags["timeout"],
        max_volumes_per_node=flags["max_volumes_per_node"],
        has_topology=flags["topology"],
        flatten_at_once=flags["flatten_at_once"],
        flatten_rate_mib=flags["flatten_rate"],
        flatten_rate_in_use_mib=flags["flatten_rate_in_use"],
        node_topology=topology,
        node_topology_labels=labels,
        crush_location=parse_crush_location(flags["crush_location"]),
        fences_gone_nodes=flags["fence_gone_nodes"],
        metrics_address=parse_address(flags["metrics_address"] or ""),
        trace_file=flags["trace"],
        cluster_mapping_file=flags["cluster_mapping"],
        kms_file=flags["kms_config"],
        otlp_endpoint=parse_url(flags["otlp_endpoint"] or ""),
    )


def run(config: ServeConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError before the socket opens."""
    from csi_driver.cli.assembly import Driver  # noqa: PLC0415 - as above: Ceph's libraries
    from csi_driver.rpc.socket import SocketLock, SocketTaken  # noqa: PLC0415

    clusters_file = ClustersFile(config.clusters_file)
    lock = SocketLock(config.socket_path)
    try:
        lock.take()
    except SocketTaken as error:
        raise ConfigError(str(error)) from error
    with _end_signals() as await_end:
        driver = Driver(config, clusters_file)
        driver.start()
        lock.made()
        log.info(
            "serving",
            driver=config.driver_name,
            version=VERSION,
            socket=str(config.socket_path),
            node=config.node_id,
            halves="+".join(["controller"] * config.controller + ["node"] * config.node),
            clusters=",".join(clusters_file.entries()),
            pid=os.getpid(),
            host=socket.gethostname(),
        )
        await_end()
        log.info("ending", grace_s=_GRACE_S)
        all_ended = driver.stop(_GRACE_S)
        lock.release()
        log.info("ended", all_calls_ended=all_ended)
    sys.stderr.flush()
    # A thread that hangs in Ceph cannot be joined, and must not keep the process: what it left stands in the journal.
    os._exit(0)


@contextmanager
def _end_signals() -> Iterator[Callable[[], object]]:
    """Gives what waits for SIGTERM or SIGINT.

    Through a socket that the interpreter's own handler writes to, whichever thread the signal reaches: an Event set by a
    Python handler can meet the main thread inside that very Event.
    """
    awaited, written = socket.socketpair()
    written.setblocking(False)
    signal.set_wakeup_fd(written.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with awaited, written:
        yield lambda: awaited.recv(1)
