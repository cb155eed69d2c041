"""Calls of the node half that fail points kill, each in a process forked from one that has imported everything.

`python -m tests.node.killed_calls` takes a call as a line of JSON, which is a list of what `one_call.call` takes, and prints
its process's exit code. On emulated processors the imports take longer than what is tested.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import traceback
from typing import Any

from tests.node import one_call

_CALL_S = 120.0
_TOLD = 2000


class KilledCalls:
    """The process that is forked from."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        command = [sys.executable, "-m", "tests.node.killed_calls"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, bufsize=0
        )

    def call(self, failpoints: str, setting: str, request: Any) -> int:
        """The exit code of the process that makes it."""
        assert self._process.stdin
        assert self._process.stdout
        method = type(request).__name__.removesuffix("Request")
        asked = [failpoints, setting, method, request.SerializeToString().hex()]
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        has_ended = select.select([self._process.stdout], [], [], _CALL_S)[0]
        answer = self._process.stdout.readline() if has_ended else b""
        assert answer, f"{method} with {failpoints} has not ended in {_CALL_S} s: {self.said()}"
        return int(answer)

    def said(self) -> str:
        """The end of what the calls wrote to stderr."""
        self._log.seek(0)
        return self._log.read()[-_TOLD:].decode(errors="replace")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _end_with(json.loads(line))
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _end_with(asked: list[str]) -> None:
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        one_call.call(*asked)
    except BaseException:  # noqa: BLE001 - nothing of it may go on in the parent's loop
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
