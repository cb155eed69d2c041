"""Fixtures of the contract of csi_driver/ceph/api.

`pool` is all that test_objects.py, test_images.py and test_snaps.py know of Ceph, so that another implementation of the
Protocols can be held to the same tests. The other files are about what only a real cluster has: users, clients, addresses.
"""

import itertools
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
import rados

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import ImageMissing, Images, ObjectMissing, Pool, Write
from csi_driver.ceph.cluster import RadosClusters, Timeouts
from csi_driver.config import read_clusters
from csi_driver.dev.layout import DevCeph

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def provisioner(ceph_dev: DevCeph) -> Credentials:
    return Credentials("provisioner", ceph_dev.keys["provisioner"])


@pytest.fixture(scope="module")
def clusters(ceph_dev: DevCeph) -> Iterator[RadosClusters]:
    opened = RadosClusters(lambda: read_clusters(ceph_dev.config_json), Timeouts())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def pool(clusters: RadosClusters, provisioner: Credentials) -> Iterator[Pool]:
    with clusters.connect("dev", provisioner) as cluster, cluster.pool("rbd") as opened:
        yield opened


@pytest.fixture(scope="module")
def bare(ceph_dev: DevCeph) -> Iterator[rados.Ioctx]:
    """The pool, as any other client has it."""
    with (
        rados.Rados(conffile=str(ceph_dev.conf), rados_id="admin", conf={"keyring": str(ceph_dev.keyring)}) as handle,
        closing(handle.open_ioctx("rbd")) as ioctx,
    ):
        yield ioctx


@pytest.fixture
def name(pool: Pool) -> Iterator[str]:
    """The name of an object that is not there; removed after the test."""
    unused = f"contract.{next(_numbers)}"
    yield unused
    with suppress(ObjectMissing):
        pool.objects.apply(unused, Write(remove_object=True))


@pytest.fixture
def image(pool: Pool) -> Iterator[str]:
    """The name of an image that is not there; removed after the test, with its snaps, its clones first.

    Of the names that begin with it those in `<image>-clone` are clones.
    """
    unused = f"contract-{next(_numbers)}"
    yield unused
    for one in (f"{unused}-clone", unused):
        _clear(pool.images, one)


def _clear(images: Images, name: str) -> None:
    with suppress(ImageMissing):
        images.move_to_trash(name)
    for entry in images.list_trash():
        if entry.name == name:
            for snap in (SNAP, f"{SNAP}-2"):
                images.remove_snap(entry.image_id, snap)
            images.purge(entry.image_id)


SNAP = "snap"
