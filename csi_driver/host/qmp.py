"""The monitor of a qemu-storage-daemon: JSON commands over a UNIX socket (QEMU's QMP), one client at a time.

Nothing sent here is logged: one of the commands carries a key.
"""

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from csi_driver.errors import DeviceTrouble

_LINE_AT_MOST_BYTES = 4 << 20


class MonitorRefused(Exception):
    """The daemon answered a command with an error; the text is its description."""


class MonitorAbsent(DeviceTrouble):
    """Nobody listens at the socket."""


class MonitorSilent(DeviceTrouble):
    """The daemon is there but did not answer in time."""


class Monitor:
    """One conversation. `timeout_s` bounds each command unless the command has a bound of its own."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + self._timeout_s
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.connect(str(self._path))
            self._receive(deadline)  # the greeting
            self.execute("qmp_capabilities")
        except (FileNotFoundError, ConnectionRefusedError) as absent:
            self._socket.close()
            raise MonitorAbsent(f"no storage daemon listens at {self._path}") from absent
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, timeout_s: float = 0.0) -> Any:
        """The command's return value. Raises MonitorRefused, MonitorSilent, MonitorAbsent (the daemon went)."""
        deadline = time.monotonic() + (timeout_s or self._timeout_s)
        request = json.dumps({"execute": command, "arguments": dict(arguments or {})}).encode()
        try:
            self._socket.sendall(request + b"\n")
            while True:
                answer = self._receive(deadline)
                if "error" in answer:
                    raise MonitorRefused(str(answer["error"].get("desc", "")))
                if "return" in answer:
                    return answer["return"]
        except TimeoutError as late:
            raise MonitorSilent(f"the storage daemon at {self._path} did not answer {command} in time") from late
        except ConnectionError as gone:
            raise MonitorAbsent(f"the storage daemon at {self._path} ended during {command}") from gone

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            received = self._socket.recv(65536)
            if not received or len(self._buffer) > _LINE_AT_MOST_BYTES:
                raise ConnectionResetError
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message
