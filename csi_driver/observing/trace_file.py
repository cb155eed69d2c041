"""`--trace FILE`: every call and every step of it, in the format of trace viewers (Perfetto, chrome://tracing).

Trace Event Format, JSON array: one complete event ("ph": "X") in each line, times in microseconds. The array is left open,
which the viewers allow, so that the file is good at every moment, whatever ends the process.
"""

import json
import threading
import time
from pathlib import Path
from typing import Any

from csi_driver.tracing import Call, StepEnd


class TraceFile:
    """An observer that appends to a file."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._guard = threading.Lock()
        self._began = time.monotonic()
        self._file = path.open("w", encoding="utf-8")
        self._file.write("[\n")

    def step_ended(self, ended: StepEnd) -> None:
        call = ended.call
        said = {"of": ended.subject, "call": call.call_id if call else ""}
        if ended.error:
            said["failed"] = repr(ended.error)
        self._write(ended.name, "step", ended.seconds, said)

    def call_ended(self, call: Call, code: str, seconds: float) -> None:
        self._write(call.method, "call", seconds, {"of": call.subject, "call": call.call_id, "code": code})

    def _write(self, name: str, category: str, seconds: float, said: dict[str, Any]) -> None:
        event = {
            "name": name,
            "cat": category,
            "ph": "X",
            "ts": round((time.monotonic() - self._began - seconds) * 1e6, 1),
            "dur": round(seconds * 1e6, 1),
            "pid": 1,
            "tid": threading.get_native_id(),
            "args": said,
        }
        line = json.dumps(event) + ",\n"
        with self._guard:
            self._file.write(line)
            self._file.flush()
