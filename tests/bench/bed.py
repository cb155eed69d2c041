"""Where it is measured: a development Ceph of its own, the driver's two halves on it, and the bare calls beside them."""

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
    """driver: its controller half, in a process of its own as in a cluster."""

    ceph: DevCeph
    driver: DriverProcess
    node: DriverProcess
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
            with _half("--controller", ceph) as driver:
                start_s = time.monotonic() - began
                with _half("--node", ceph) as node, Bare(ceph) as bare:
                    yield Bed(ceph, driver, node, Calls(driver.rpc, ceph.secrets("provisioner")), bare, start_s)
        finally:
            cluster.down(directory, purge=True)


def _half(flag: str, ceph: DevCeph) -> DriverProcess:
    return DriverProcess.start(flag, "--log-level", "warning", clusters=ceph.config_json)
