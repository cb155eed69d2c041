"""The fixture `bench`: a node half of its own for each test, and the proof at the end that nothing is left of it."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from csi_driver.dev.layout import DevCeph
from tests.fixtures.driver import StartDriver, started_drivers
from tests.node.bench import Bench
from tests.node.killed_calls import KilledCalls
from tests.warm_driver import WarmDriver


@pytest.fixture(scope="session")
def killed_calls() -> Iterator[KilledCalls]:
    killed_calls = KilledCalls()
    yield killed_calls
    killed_calls.close()


@pytest.fixture
def start_driver() -> Iterator[StartDriver]:
    """As everywhere, but warm."""
    with started_drivers(WarmDriver) as start:
        yield start


@pytest.fixture
def bench(ceph_dev: DevCeph, attacher_name: str, killed_calls: KilledCalls) -> Iterator[Bench]:
    """Cleaned through RPCs alone; whatever is on the machine after that is an error of the driver."""
    directory = Path(tempfile.mkdtemp(prefix="rbd-csi-node-"))  # short: sockets lie below it
    bench = Bench(ceph_dev, directory, attacher_name, killed_calls)
    left: list[str] = []
    try:
        yield bench
        bench.clean()
        left = bench.leftovers()
    finally:
        bench.force_clean()
        bench.stop()
        with contextlib.suppress(OSError):
            shutil.rmtree(directory)
    assert not left, f"left on the machine: {left}"
    bench.remove_images()
