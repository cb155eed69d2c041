"""The gRPC server: one UNIX socket, all services on it, an orderly end.

Threaded, not asyncio: librados and librbd release the GIL, and a handler here runs to its end when its client's deadline
passes. Handler threads only wait; Ceph work runs behind the gates (gate.py), so that Probe always finds a thread.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from csi_driver.errors import DriverError
from csi_driver.rpc.handle_mapping import HandleInterceptor, Translate
from csi_driver.rpc.interceptor import CallInterceptor

_HANDLER_THREADS = 1024
"""Made only as calls need them. More than all gates together admit, so that no call waits for a thread."""

Registration = Callable[[grpc.Server], None]


class Server:
    """Serves until `stop`."""

    def __init__(
        self, path: Path, timeout_s: float, services: list[Registration], translate: Translate | None = None
    ) -> None:
        """translate: every handle of a request."""
        self._path = path
        self._server = grpc.server(
            ThreadPoolExecutor(_HANDLER_THREADS, thread_name_prefix="rpc"),
            interceptors=[CallInterceptor(timeout_s), *([HandleInterceptor(translate)] if translate else [])],
            options=[("grpc.so_reuseport", 0)],
        )
        for register in services:
            register(self._server)

    def start(self) -> None:
        """Raises DriverError when the socket cannot be opened."""
        try:
            self._server.add_insecure_port(f"unix:{self._path}")
        except RuntimeError as error:
            raise DriverError(f"socket {self._path} cannot be opened: {error}") from error
        self._server.start()

    def stop(self, grace_s: float) -> None:
        """Accept nothing more; calls under way may end within `grace_s` seconds."""
        self._server.stop(grace_s).wait()
