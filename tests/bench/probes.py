"""Probe asked again and again while a burst lasts, by a process of its own, as the kubelet asks.

Threads of the burst's own process would wait for its clients before they ask, and for them again before they see the answer.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from csi_driver.pb import csi_pb2 as pb
from tests.client import Driver

_EVERY_S = 0.02
_TIMEOUT_S = 30.0


@dataclass
class Probes:
    """How long each took; filled in at the end."""

    milliseconds: list[float] = field(default_factory=list)


@contextmanager
def probed(socket: Path) -> Iterator[Probes]:
    """Asked before the body begins, until it ends."""
    probes = Probes()
    command = (sys.executable, "-m", "tests.bench.probes", str(socket))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()  # it has asked once
        try:
            yield probes
        finally:
            probes.milliseconds += json.loads(process.communicate()[0])


def _ask_until_told(socket: Path) -> list[float]:
    told = threading.Event()

    def await_end() -> None:
        sys.stdin.read()
        told.set()

    threading.Thread(target=await_end, daemon=True).start()
    milliseconds = []
    with Driver(socket) as driver:
        driver.identity.Probe(pb.ProbeRequest(), timeout=_TIMEOUT_S)
        sys.stdout.write("\n")
        sys.stdout.flush()
        while not told.wait(_EVERY_S):
            began = time.perf_counter()
            driver.identity.Probe(pb.ProbeRequest(), timeout=_TIMEOUT_S)
            milliseconds.append((time.perf_counter() - began) * 1000)
    return milliseconds


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_ask_until_told(Path(sys.argv[1]))))
