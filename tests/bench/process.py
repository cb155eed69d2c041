"""What the driver's process takes: memory, threads, connections, processor time. Read from /proc."""

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Footprint:
    memory_mb: float
    threads: int
    sockets: int

    def values(self) -> dict[str, float]:
        return asdict(self)


def footprint(pid: int) -> Footprint:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    sockets = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets += str(descriptor.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue  # closed meanwhile
    return Footprint(int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), sockets)


def idle_percent(pid: int, seconds: float) -> float:
    """Processor time in percent of one core, while nothing is asked."""
    before = _ticks(pid)
    time.sleep(seconds)
    return (_ticks(pid) - before) / os.sysconf("SC_CLK_TCK") / seconds * 100


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])
