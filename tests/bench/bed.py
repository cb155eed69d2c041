"""Where it is measured: a development Ceph of its own, the driver on it, and the bare calls beside it."""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from csi_driver.dev import cluster
from csi_driver.dev.layout import DevCeph, DevOptions
from csi_driver.pb import csi_pb2 as pb
from tests.bench.bare import Bare
from tests.controller.calls import Calls
from tests.driver import DriverProcess

_PURGED_S = 600.0


@dataclass(frozen=True)
class Bed:
    ceph: DevCeph
    driver: DriverProcess
    calls: Calls
    bare: Bare
    start_s: float
    """From the start of the process to its first Probe that says ready."""

    def delete_all(self, volumes: Iterable[pb.Volume]) -> None:
        """Not measured."""
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda volume: self.calls.delete_until_done(volume.volume_id), volumes))

    def settle(self, bare_prefix: str = "bare-") -> None:
        """Bare images of names that begin so are gone, and nothing goes on behind the driver's answers any more."""
        self.bare.purge(bare_prefix)
        deadline = time.monotonic() + _PURGED_S
        while not self.bare.is_trash_empty():
            assert time.monotonic() < deadline, "the trash is not emptied"
            time.sleep(0.05)


@contextmanager
def made_bed() -> Iterator[Bed]:
    with TemporaryDirectory(prefix="rbd-csi-bench-") as scratch:
        directory = Path(scratch) / "ceph"
        try:
            ceph = cluster.up(DevOptions(directory))
            began = time.monotonic()
            with DriverProcess.start("--log-level", "warning", clusters=ceph.config_json) as driver, Bare(ceph) as bare:
                start_s = time.monotonic() - began
                yield Bed(ceph, driver, Calls(driver.rpc, ceph.secrets("provisioner")), bare, start_s)
        finally:
            cluster.down(directory, purge=True)
