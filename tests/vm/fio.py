"""In the guest: fio on an image through each attacher, beside fio's own librbd engine, which has no device in between.

    scripts/vm fio

What counts is the ratio to that bare librbd: all meet the same Ceph and the same processors, the guest's emulated ones, and
take turns. Each attacher is used with its defaults; fio goes past the page cache, and bare librbd has its cache switched off.
"""

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from csi_driver import logs
from csi_driver.addresses import Credentials, ImageAddress
from csi_driver.dev import cluster
from csi_driver.dev.layout import DevCeph
from csi_driver.host.api import Attachment
from csi_driver.host.commands import run
from tests.node.machine import Setting

BARE = "bare librbd"
ATTACHERS = ("krbd", "nbd", "fuse")
ROUNDS = 3
RUN_S, RAMP_S = 4, 1
IMAGE, SIZE_MIB = "fio", 128
UNCACHED = Path("/run/fio-ceph.conf")
BARE_WORDS = ["--ioengine=rbd", "--clientname=admin", "--pool=rbd", f"--rbdname={IMAGE}"]


@dataclass(frozen=True)
class Load:
    """What fio does. is_write: which of its two results counts."""

    name: str
    rw: str
    bs: str
    depth: int

    @property
    def is_write(self) -> bool:
        return "write" in self.rw


LOADS = (
    Load("write 4 KiB, 1 at a time", "randwrite", "4k", 1),
    Load("write 4 KiB, 16 at a time", "randwrite", "4k", 16),
    Load("read 4 KiB, 1 at a time", "randread", "4k", 1),
    Load("read 4 KiB, 16 at a time", "randread", "4k", 16),
    Load("write 1 MiB, 4 at a time", "write", "1m", 4),
    Load("read 1 MiB, 4 at a time", "read", "1m", 4),
)


@dataclass(frozen=True)
class Measured:
    """Of one run of fio."""

    mib_per_s: float
    mean_ms: float


def main() -> None:
    logs.set_up("warning", "text")
    (directory,) = sys.argv[1:]
    ceph = cluster.made(Path(directory))
    UNCACHED.write_text(f"{ceph.conf.read_text()}\n[client]\nrbd_cache = false\n")
    ceph.rbd("create", "--size", f"{SIZE_MIB}M", f"rbd/{IMAGE}")
    fio(BARE_WORDS, Load("fill", "write", "1m", 4), fill=True)
    found: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for _ in range(ROUNDS):
        for name in (BARE, *ATTACHERS):
            with target(ceph, name) as words:
                for load in LOADS:
                    found[load.name, name].append(fio(words, load))
    show(lambda load, name: found[load.name, name])
    ceph.rbd("rm", "--no-progress", f"rbd/{IMAGE}")


def fio(words: list[str], load: Load, *, fill: bool = False) -> Measured:
    argv = ["fio", "--name=fio", "--output-format=json", f"--size={SIZE_MIB}m", f"--rw={load.rw}", f"--bs={load.bs}"]
    argv += [f"--iodepth={load.depth}", *words]
    argv += [] if fill else ["--time_based", f"--runtime={RUN_S}", f"--ramp_time={RAMP_S}"]
    said = run(argv, timeout_s=300, env={"CEPH_CONF": str(UNCACHED)}).stdout
    (job,) = json.loads(said[said.index("{") :])["jobs"]
    result = job["write" if load.is_write else "read"]
    return Measured(result["bw_bytes"] / (1 << 20), result["lat_ns"]["mean"] / 1e6)


@contextmanager
def target(ceph: DevCeph, name: str) -> Iterator[list[str]]:
    """fio's words for the image by this way, which ends with the block."""
    if name == BARE:
        yield BARE_WORDS
        return
    with TemporaryDirectory(prefix="fio-", dir="/run") as directory:
        attacher = Setting(directory, (ceph.address,), attacher_name=name).attacher()
        attachment = Attachment(IMAGE, "rbd", "", IMAGE, read_only=False)
        address = ImageAddress((ceph.address,), Credentials("node", ceph.keys["node"]), "rbd", "", IMAGE)
        device = attacher.attach(attachment, address, ())
        try:
            yield ["--ioengine=libaio", "--direct=1", f"--filename={device.path}"]
        finally:
            attacher.detach(attachment, ())


def show(measured: Callable[[Load, str], list[Measured]]) -> None:
    """Medians of the rounds; beside an attacher's, what they are of bare librbd's."""
    table = Table(title="fio: MiB/s and mean latency in ms, and what these are of bare librbd's", box=MARKDOWN)
    table.add_column("load")
    for name in (BARE, *ATTACHERS):
        table.add_column(name, justify="right")
    for load in LOADS:
        bare_rate, bare_ms = _medians(measured(load, BARE))
        cells = [f"{bare_rate:.1f}, {bare_ms:.1f} ms"]
        for name in ATTACHERS:
            rate, ms = _medians(measured(load, name))
            cells.append(f"{rate:.1f}, {ms:.1f} ms ({rate / bare_rate:.2f}, {ms / bare_ms:.2f})")
        table.add_row(load.name, *cells)
    Console(width=150).print(table)


def _medians(runs: list[Measured]) -> tuple[float, float]:
    return statistics.median(one.mib_per_s for one in runs), statistics.median(one.mean_ms for one in runs)


if __name__ == "__main__":
    main()
