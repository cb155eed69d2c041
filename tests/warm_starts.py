"""Drivers that start at once: forked from one process that has imported everything.

`python -m tests.warm_starts SOCKET` listens there. A connection begins a driver with a line of JSON, its arguments,
environment and log, and is told its pid, and in the end its exit code, a line each. What is tested begins after the imports,
which take half a second, and half a minute where the processor is emulated (scripts/vm).
"""

import atexit
import faulthandler
import functools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_LISTENS_WITHIN_S = 120


class Forked:
    """A process whose end is reported by its parent."""

    def __init__(self, connection: socket.socket) -> None:
        self._reports = connection.makefile("rb", buffering=0)
        self._reading = threading.Lock()
        self._code: int | None = None
        self.pid = int(self._reports.readline())

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None and not select.select([self._reports], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("the driver", timeout or 0)
        with self._reading:
            if self._code is None:
                self._code = int(self._reports.readline())
            return self._code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def start(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Forked:
    """`rbd-csi` with these arguments."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(_parent())
        asked = [list(arguments), dict(environment), str(log)]
        connection.sendall(json.dumps(asked).encode() + b"\n")
        return Forked(connection)


@functools.cache
def _parent() -> str:
    """Where it listens; it ends with this process, however this one ends: its stdin does then."""
    directory = tempfile.mkdtemp(prefix="rbd-csi-warm-")
    path = f"{directory}/socket"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.warm_starts", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout
    assert select.select([process.stdout], [], [], _LISTENS_WITHIN_S)[0], "no driver can be started: too slow"
    assert process.stdout.readline() == b"listening\n"
    atexit.register(shutil.rmtree, directory)
    atexit.register(process.wait)
    atexit.register(process.kill)
    return path


class _Parent:
    """The process that is forked from."""

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._told, self._tells = socket.socketpair()
        self._tells.setblocking(False)
        self._callers: dict[int, socket.socket] = {}
        signal.set_wakeup_fd(self._tells.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        """Until stdin ends."""
        while True:
            ready, _, _ = select.select([self._listener, self._told, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            if self._told in ready:
                self._told.recv(64)
                self._report()
            if self._listener in ready:
                self._begin(self._listener.accept()[0])

    def _begin(self, caller: socket.socket) -> None:
        with caller.makefile("rb") as lines:
            arguments, environment, log = json.loads(lines.readline())
        pid = os.fork()
        if not pid:
            caller.close()
            self._be(arguments, environment, log)
        self._callers[pid] = caller
        caller.sendall(f"{pid}\n".encode())

    def _be(self, arguments: list[str], environment: dict[str, str], log: str) -> None:
        """A driver, as if it had been started by itself."""
        from csi_driver import __main__ as program  # noqa: PLC0415 - imported already

        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for mine in (self._listener, self._told, self._tells, *self._callers.values()):
            mine.close()
        os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
        written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(written, sys.stdout.fileno())
        os.dup2(written, sys.stderr.fileno())
        faulthandler.enable()
        os.environ.clear()
        os.environ.update(environment)
        sys.argv[1:] = arguments
        program.main()

    def _report(self) -> None:
        for pid, caller in list(self._callers.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with suppress(OSError), caller:  # who asked may be gone
                    caller.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
                del self._callers[pid]


def main() -> None:
    from csi_driver.cli import assembly, controller_half, node_half, serve  # noqa: F401, PLC0415 - here is where it warms up
    from csi_driver.rpc import socket as sockets  # noqa: F401, PLC0415

    parent = _Parent(sys.argv[1])
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    parent.run()


if __name__ == "__main__":
    main()
