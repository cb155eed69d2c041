"""The pool of the contract's tests, in memory. The other fixtures are those of tests/ceph."""

from collections.abc import Iterator

import pytest

from csi_driver.ceph.api import Pool
from tests.ceph.conftest import image, name
from tests.memory_ceph import Client, MemoryCeph, MemoryClusters

__all__ = ["image", "name"]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    clusters = MemoryClusters(MemoryCeph(), Client())
    with clusters.connect("dev", None) as cluster, cluster.pool("rbd") as opened:
        yield opened
