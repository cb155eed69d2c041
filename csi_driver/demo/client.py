"""A client of the driver's socket that behaves as the sidecars do: what is unfinished is asked for again.

By hand, while `rbd-csi demo --keep` has all running:

    rpc = Client("….sock")
    rpc.node.NodeGetInfo(csi_pb2.NodeGetInfoRequest())
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc

from csi_driver.demo.place import DemoError
from csi_driver.pb import csi_pb2, csi_pb2_grpc

Answer = TypeVar("Answer")

_AGAIN = (grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE)
_CALL_S = 60.0
_REPEAT_S = 45.0
_PAUSE_S = 0.2
_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
]


class Refused(DemoError):
    """The driver refused a call for good: it has left nothing behind."""


class Unanswered(DemoError):
    """The driver went on saying that the call is not finished, or was not there."""


class Client:
    """The services of one driver. `asked` counts how often the last call was made."""

    def __init__(self, socket: Path | str) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket}", options=_OPTIONS)
        self.identity = csi_pb2_grpc.IdentityStub(self._channel)
        self.controller = csi_pb2_grpc.ControllerStub(self._channel)
        self.node = csi_pb2_grpc.NodeStub(self._channel)
        self.asked = 0

    def call(self, method: Callable[..., Answer], request: Any) -> Answer:
        """The answer, repeated while the driver says that it is not finished. Raises Refused, Unanswered."""
        deadline = time.monotonic() + _REPEAT_S
        self.asked = 0
        while True:
            self.asked += 1
            try:
                return method(request, timeout=_CALL_S)
            except grpc.RpcError as error:
                refusal = cast("grpc.Call", error)  # what a stub raises is both; the types cannot say so
                name = type(request).__name__.removesuffix("Request")
                said = f"{name}: {refusal.code().name}: {refusal.details()}"
                if refusal.code() not in _AGAIN:
                    raise Refused(said) from error
                if time.monotonic() > deadline:
                    raise Unanswered(f"{said} (asked {self.asked} times)") from error
            time.sleep(_PAUSE_S)

    def is_ready(self, timeout_s: float) -> bool:
        try:
            answer = self.identity.Probe(csi_pb2.ProbeRequest(), timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError:
            return False
        return answer.ready.value

    def close(self) -> None:
        self._channel.close()
