"""Fixtures of the controller's tests: a driver that all tests of a module share, and a look into the pool."""

from collections.abc import Callable, Iterator

import pytest

from csi_driver.ceph.api import Pool
from csi_driver.dev.inventory import Place, inventory
from csi_driver.dev.layout import DevCeph
from tests.controller.calls import Calls
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver
from tests.fixtures.emptiness import newly_left, pytest_runtest_teardown
from tests.seam import operators_pool

__all__ = ["pytest_runtest_teardown"]  # holds each module to leaving the pool empty


@pytest.fixture(scope="module")
def shared_driver(ceph_dev: DevCeph) -> Iterator[DriverProcess]:
    with DriverProcess.start("--controller", clusters=ceph_dev.config_json) as driver:
        yield driver


@pytest.fixture
def calls_of(ceph_dev: DevCeph) -> Callable[[DriverProcess], Calls]:
    return lambda driver: Calls(driver.rpc, ceph_dev.secrets("provisioner"))


@pytest.fixture
def calls(shared_driver: DriverProcess, calls_of: Callable[[DriverProcess], Calls]) -> Calls:
    return calls_of(shared_driver)


@pytest.fixture
def pool(ceph_dev: DevCeph) -> Iterator[Pool]:
    """The pool `rbd` through the driver's own seam, as the operator."""
    with operators_pool(ceph_dev) as opened:
        yield opened


@pytest.fixture
def clean_pool(ceph_dev: DevCeph, start_driver: StartDriver) -> Iterator[None]:
    """Nothing of any volume is in the pool after the test, while its drivers still run: they purge behind the answers."""
    yield
    assert newly_left(ceph_dev) == frozenset()


@pytest.fixture
def empty_pool(ceph_dev: DevCeph, clean_pool: None) -> None:
    """Likewise before it, for tests that touch all that is in the pool: also what earlier tests were blamed for."""
    newly_left(ceph_dev)
    assert inventory(ceph_dev, Place("rbd")) == frozenset(), "of earlier tests"
