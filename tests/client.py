"""A client of the driver's socket for tests and demonstrations: the stubs of each service on one channel.

    with Driver(socket) as driver:
        volume = driver.controller.CreateVolume(request).volume

Calls go through the stubs as they are: typed requests and answers, and what the driver refuses raises grpc.RpcError.
`refusal` turns that into its two parts. The channel connects again by itself when the driver was restarted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, cast

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


class Revivable(Protocol):
    """A driver's process that is started again when it has crashed. life: how often that was."""

    life: int

    def is_revived(self, since: int) -> bool:
        """Whether it had to be started again, now or by another call, since it was in that life."""


class _Repeated(grpc.UnaryUnaryClientInterceptor):
    """A call whose driver has crashed is made again, as the sidecars do."""

    def __init__(self, process: Revivable) -> None:
        self._process = process

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: object, request: object) -> Any:
        life = self._process.life
        outcome = continuation(details, request)
        if outcome.code() is grpc.StatusCode.UNAVAILABLE and self._process.is_revived(life):
            return continuation(details, request)
        return outcome


class Driver:
    """One driver behind its socket; close it, or use it as a context."""

    def __init__(self, socket: Path, process: Revivable | None = None) -> None:
        # a subchannel pool of its own: channels in one process would else share a broken connection's waiting time
        options = [*_RECONNECT, ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"unix://{socket}", options=options)
        calls = grpc.intercept_channel(self._channel, _Repeated(process)) if process else self._channel
        self.identity = csi_pb2_grpc.IdentityStub(calls)
        self.controller = csi_pb2_grpc.ControllerStub(calls)
        self.groups = csi_pb2_grpc.GroupControllerStub(calls)
        self.metadata = csi_pb2_grpc.SnapshotMetadataStub(calls)
        self.node = csi_pb2_grpc.NodeStub(calls)

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
