"""A client of the driver's socket for tests and demonstrations: the stubs of each service on one channel.

    with Driver(socket) as driver:
        volume = driver.controller.CreateVolume(request).volume

Calls go through the stubs as they are: typed requests and answers, and what the driver refuses raises grpc.RpcError.
`refusal` turns that into its two parts. The channel connects again by itself when the driver was restarted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import grpc

from csi_driver.pb import csi_pb2, csi_pb2_grpc

# A restarted driver is found again within a tenth of a second, not after the default second.
_RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 5000),  # what one attempt may take, on a slow machine as well
    ("grpc.max_reconnect_backoff_ms", 100),
]


# No answer yet, an answer that says no, or a connection of which the driver has just died.
_NOT_READY = (
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAVAILABLE,
)


class Driver:
    """One driver behind its socket; close it, or use it as a context."""

    def __init__(self, socket: Path) -> None:
        # a subchannel pool of its own: channels in one process would else share a broken connection's waiting time
        options = [*_RECONNECT, ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"unix://{socket}", options=options)
        self.identity = csi_pb2_grpc.IdentityStub(self._channel)
        self.controller = csi_pb2_grpc.ControllerStub(self._channel)
        self.groups = csi_pb2_grpc.GroupControllerStub(self._channel)
        self.metadata = csi_pb2_grpc.SnapshotMetadataStub(self._channel)
        self.node = csi_pb2_grpc.NodeStub(self._channel)

    def is_ready(self, timeout_s: float) -> bool:
        """Whether Probe answers ready within the time; waits for a socket that is not there yet. Unhealthy: not ready."""
        try:
            answer = self.identity.Probe(csi_pb2.ProbeRequest(), timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            if refusal_of(error).code in _NOT_READY:
                return False
            raise
        return answer.ready.value if answer.HasField("ready") else True

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Refusal:
    """What a client learns of a call that failed."""

    code: grpc.StatusCode
    message: str


def refusal(call: Callable[[Any], Any], request: object) -> Refusal | None:
    """The refusal of one call, None when it succeeded. An answer's details must be empty (CSI: Error Scheme)."""
    try:
        call(request)
    except grpc.RpcError as error:
        return refusal_of(error)
    return None


def refusal_of(error: grpc.RpcError) -> Refusal:
    call = cast("grpc.Call", error)  # what a stub raises is both; the types cannot say so
    return Refusal(call.code(), call.details() or "")
