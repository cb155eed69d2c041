"""The real driver as a process of its own: started, waited for, paused, killed, stopped; several side by side.

    with DriverProcess.start(clusters=ceph.config_json, node_id="node-1") as driver:
        driver.rpc.controller.CreateVolume(...)
        driver.kill()        # as a crash does
        driver.restart()     # same socket, same arguments

Each has a directory of its own, short enough for a socket's path: `socket/csi.sock` with nothing beside it, and `log`
with all that the driver writes to stderr, over restarts too.

librbd 16.2 ends its process now and then (docs/decisions/0030). As the kubelet does, a driver that died of that is started
again, and the call that met it is repeated, as by a sidecar; stderr tells it with the stacks. A second time in one process
of the tests, of whatever driver, fails the test.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, Self

from tests.client import Driver
from tests.stopping import await_stop, resume, stop

CRASHES = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS)
"""Exit codes of a process that librbd has ended."""
START_TIMEOUT_S = 120.0  # emulated, and beside other work, Python alone takes half a minute (scripts/vm)
STOP_TIMEOUT_S = 30.0


def _outside_of_kubernetes() -> dict[str, str]:
    """The environment of a driver that knows its nodes from Ceph, wherever the tests run."""
    here = {key: value for key, value in os.environ.items() if key != "KUBERNETES_SERVICE_HOST"}
    return here | {"PYTHONFAULTHANDLER": "1"}


class DriverMisbehaved(AssertionError):
    """The driver did not start or stop as it must; the message ends with the tail of its log."""


class Process(Protocol):
    """What a driver's process is to these tests: as subprocess.Popen has it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...
    def terminate(self) -> None: ...


class DriverProcess:
    """One `rbd-csi serve`. Made by `start`; `rpc` is its client."""

    crashes: ClassVar[int] = 0
    """Of all drivers of these tests."""

    there: ClassVar[set["DriverProcess"]] = set()
    """All that are not removed yet."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="rbd-csi-"))
        self.socket = self.directory / "socket" / "csi.sock"
        self.socket.parent.mkdir()
        self.log = self.directory / "log"
        endpoint = ("--endpoint", f"unix://{self.socket}")
        self._arguments = ("serve", *endpoint, *arguments)
        self._prefix = tuple(prefix)
        self._environment = {**_outside_of_kubernetes(), **environment}
        self._process: Process | None = None
        self.died_with: int | None = None
        """The exit code of the process that `has_died` last said to be dead."""
        self._reviving = threading.RLock()
        self.life = 0
        self.rpc = Driver(self.socket, self)
        DriverProcess.there.add(self)

    @classmethod
    def start(
        cls,
        *arguments: str,
        clusters: Path,
        node_id: str = "node-1",
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Self:
        """Runs both halves, and returns when Probe answers ready; `arguments` are further flags of `serve`.

        `prefix`: a command that runs the driver's, in the same process.
        """
        driver = cls(("--node-id", node_id, "--clusters", str(clusters), *arguments), environment or {}, prefix)
        try:
            driver.restart()
        except BaseException:
            driver.remove()
            raise
        return driver

    @property
    def pid(self) -> int:
        return self._running().pid

    def restart(self, environment: Mapping[str, str] | None = None, *, ready_within_s: float = START_TIMEOUT_S) -> None:
        """Starts the process, which must not run, and waits until it is ready. `environment` replaces what was added."""
        process = self._begin_with(environment)
        deadline = time.monotonic() + ready_within_s
        while not self.rpc.is_ready(timeout_s=0.5):
            if (code := process.poll()) is not None:
                raise DriverMisbehaved(f"the driver ended with {code} at start\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise DriverMisbehaved(f"the driver was not ready after {ready_within_s} s\n{self.log_tail()}")
            time.sleep(0.05)

    def _begin_with(self, environment: Mapping[str, str] | None) -> Process:
        assert self._process is None, "the driver runs already"
        if environment is not None:
            self._environment = {**_outside_of_kubernetes(), **environment}
        self._process = self.begin()
        return self._process

    def begin(self) -> Process:
        command = (*self._prefix, sys.executable, "-m", "csi_driver", *self._arguments)
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def is_revived(self, since: int) -> bool:
        """Whether librbd ended the process since that life, so that it was started again."""
        with self._reviving:
            if self._has_crashed():
                self._count_crash()
                self.life, self._process = self.life + 1, None
                self.restart()
            return self.life > since

    def _has_crashed(self) -> bool:
        process = self._process  # another thread may just be killing it
        return process is not None and process.poll() in CRASHES

    def _count_crash(self) -> None:
        """Tells the first one. Raises DriverMisbehaved from the second on."""
        DriverProcess.crashes += 1
        if DriverProcess.crashes > 1:
            raise DriverMisbehaved(f"a driver has crashed, the second in these tests\n{self.log_tail(120)}")
        assert sys.__stderr__
        sys.__stderr__.write(f"\na driver of the tests crashed, and is started again:\n{self.log_tail(120)}\n")

    def pause(self) -> None:
        """The process keeps its locks and connections and does nothing."""
        stop(self._running().pid)

    def await_pause(self) -> None:
        """Waits until the process has stopped itself, as a fail point makes it."""
        try:
            await_stop(self.pid, STOP_TIMEOUT_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_tail()}") from error

    def resume(self) -> None:
        """It goes on where it stood."""
        resume(self._running().pid)

    def kill(self) -> None:
        """SIGKILL, and waits until the process is gone: a crash."""
        with self._reviving:
            process = self._running()
            process.kill()
            process.wait()
            self._process = None

    def await_death(self) -> None:
        """Waits until the process has died of itself, as a fail point makes it."""
        self._running().wait(STOP_TIMEOUT_S)
        self._process = None

    def has_died(self) -> bool:
        """Whether the process has ended of itself; then it can be started again."""
        code = self._running().poll()
        if code is None:
            return False
        self._process, self.died_with = None, code
        return True

    def send(self, number: signal.Signals) -> None:
        self._running().send_signal(number)

    def wait(self) -> int:
        """The exit code of a process that was told to end."""
        code = self._running().wait(STOP_TIMEOUT_S)
        self._process = None
        return code

    def stop(self) -> None:
        """SIGTERM, as an orderly end. Raises DriverMisbehaved unless the process ends in time with code 0."""
        process = self._running()
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            code = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired as slow:
            self.kill()
            raise DriverMisbehaved(f"the driver ran on after SIGTERM\n{self.log_tail()}") from slow
        self._process = None
        if code in CRASHES:
            self._count_crash()
        elif code != 0:
            raise DriverMisbehaved(f"the driver ended with {code} after SIGTERM\n{self.log_tail()}")

    def remove(self) -> None:
        """Ends whatever runs and removes the directory, whatever state a test left."""
        DriverProcess.there.discard(self)
        if self._process is not None:
            self.kill()
        self.rpc.close()
        shutil.rmtree(self.directory)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def _running(self) -> Process:
        assert self._process is not None, "the driver does not run"
        return self._process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """After a test that passed the driver must also end well; after one that failed it just ends."""
        try:
            if kind is None and self._process is not None:
                self.stop()
        finally:
            self.remove()
