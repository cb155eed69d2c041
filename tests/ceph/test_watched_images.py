"""Images that another client has open: who it is, and what it keeps from happening."""

import pytest

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import ImageBusy, Pool
from csi_driver.ceph.cluster import RadosClusters
from csi_driver.dev.layout import DevCeph
from csi_driver.host.commands import run
from csi_driver.model import ImageLayout
from tests import image_data
from tests.dying_watcher import leave_a_watch
from tests.image_client import ImageClient

MIB = 1 << 20
LOCKED = ImageLayout(("layering", "exclusive-lock"))


@pytest.fixture
def made(pool: Pool, image: str) -> str:
    pool.images.create(image, 8 * MIB, LOCKED)
    return image


def test_a_client_that_writes_is_told_by_its_address(ceph_dev: DevCeph, pool: Pool, made: str) -> None:
    """And no longer once it has closed the image; looking leaves no watch of one's own."""
    with ImageClient(ceph_dev, made) as client:
        assert [watcher.address for watcher in pool.images.inspect(made).watchers] == [client.address]
    assert pool.images.inspect(made).watchers == ()


def test_a_client_that_only_reads_keeps_nothing_from_happening(ceph_dev: DevCeph, pool: Pool, made: str) -> None:
    with image_data.opened(ceph_dev, made, read_only=True):
        assert pool.images.inspect(made).watchers == ()
        pool.images.remove(made)


def test_a_watched_image_is_not_removed_and_stays_whole(ceph_dev: DevCeph, pool: Pool, made: str) -> None:
    with ImageClient(ceph_dev, made):
        with pytest.raises(ImageBusy):
            pool.images.remove(made)
        assert pool.images.inspect(made).size_bytes == 8 * MIB
    assert image_data.read(ceph_dev, made, 4) == b"held"
    pool.images.remove(made)


def test_a_watched_image_goes_to_the_trash_and_is_purged_when_its_client_is_gone(
    ceph_dev: DevCeph, pool: Pool, made: str
) -> None:
    image_id = pool.images.find_id(made)
    assert image_id
    with ImageClient(ceph_dev, made):
        pool.images.move_to_trash(made)
        with pytest.raises(ImageBusy):
            pool.images.purge(image_id)
        assert image_id in {entry.image_id for entry in pool.images.list_trash()}
    pool.images.purge(image_id)
    assert image_id not in {entry.image_id for entry in pool.images.list_trash()}


def test_a_watch_that_outlives_its_client_is_found_out(
    ceph_dev: DevCeph, clusters: RadosClusters, provisioner: Credentials, pool: Pool, made: str
) -> None:
    """The client was killed while its watch was being written: no blocklist ends it, and the image cannot be removed."""
    image_id = pool.images.find_id(made)
    assert image_id
    with clusters.connect("dev", provisioner) as cluster:

        def outlives(address: str) -> bool:
            cluster.blocklist(address)
            return address in {watcher.address for watcher in pool.images.inspect(made).watchers}

        leave_a_watch(ceph_dev, f"rbd_header.{image_id}", outlives)
    assert pool.images.watchers(image_id) == ()
    pool.images.remove(made)


def test_a_removal_that_such_a_watch_cut_short_goes_on(
    ceph_dev: DevCeph, clusters: RadosClusters, provisioner: Credentials, pool: Pool, made: str
) -> None:
    """librbd has put the image aside by then: neither its name nor the list of the trash leads to it any more."""
    image_id = pool.images.find_id(made)
    assert image_id
    header = f"rbd_header.{image_id}"
    with clusters.connect("dev", provisioner) as cluster:

        def outlives(address: str) -> bool:
            cluster.blocklist(address)
            return (
                address
                in run(("rados", "-c", str(ceph_dev.conf), "-p", "rbd", "listwatchers", header), timeout_s=60).stdout
            )

        image_data.begin_removal(ceph_dev, made)
        leave_a_watch(ceph_dev, header, outlives)
    assert pool.images.find_id(made) is None
    pool.images.remove(made)
    assert header not in set(pool.objects.names())


def test_a_removal_of_an_image_that_a_client_has_open_stays_refused(ceph_dev: DevCeph, pool: Pool, made: str) -> None:
    """However often: what is looked at anew is a living client's watch."""
    with ImageClient(ceph_dev, made):
        for _ in range(2):
            with pytest.raises(ImageBusy):
                pool.images.remove(made)
    pool.images.remove(made)
    assert pool.images.find_id(made) is None


def test_a_watch_of_a_living_client_stays(ceph_dev: DevCeph, pool: Pool, made: str) -> None:
    image_id = pool.images.find_id(made)
    assert image_id
    with ImageClient(ceph_dev, made) as client:
        assert [watcher.address for watcher in pool.images.watchers(image_id)] == [client.address]
        assert [watcher.address for watcher in pool.images.watchers(image_id)] == [client.address]
    assert pool.images.watchers(image_id) == ()


def test_an_image_grows_and_is_snapped_under_its_client(ceph_dev: DevCeph, pool: Pool, made: str) -> None:
    """The lock's holder does it for whoever asks."""
    image_id = pool.images.find_id(made)
    assert image_id
    with ImageClient(ceph_dev, made) as client:
        assert pool.images.grow(made, 16 * MIB) == 16 * MIB
        assert pool.images.cut(image_id, "snap", most=1).size_bytes == 16 * MIB
        info = pool.images.inspect(made)
        assert info.size_bytes == 16 * MIB
        assert [watcher.address for watcher in info.watchers] == [client.address]


def test_a_client_on_the_blocklist_keeps_its_lock_without_a_watch(ceph_dev: DevCeph, pool: Pool, made: str) -> None:
    """Until another client wants the lock: so it is seen who was cut off while it had the image attached."""
    image_id = pool.images.find_id(made)
    assert image_id
    with ImageClient(ceph_dev, made) as client:
        assert [owner.address for owner in pool.images.lock_owners(image_id)] == [client.address]
        pool.cluster.blocklist(client.address)
        client.kill()
    assert client.address in pool.cluster.blocklisted()
    assert pool.images.inspect(made).watchers == ()
    assert [owner.address for owner in pool.images.lock_owners(image_id)] == [client.address]


def test_a_healthy_cluster_has_no_failed_checks_and_all_its_pools(pool: Pool) -> None:
    assert {check.code for check in pool.cluster.health()} <= {"MON_DISK_LOW"}
    assert pool.cluster.pool_ids()[pool.name] == pool.pool_id
