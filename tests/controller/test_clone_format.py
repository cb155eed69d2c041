"""`cloneFormat`: copies of either format on a cluster that allows both, and what a cluster that allows one refuses."""

from collections.abc import Iterator

import grpc
import pytest

from csi_driver.ceph.api import Pool, SnapKind
from csi_driver.dev import cluster
from csi_driver.dev.inventory import Place, leftovers
from csi_driver.dev.layout import DevCeph, DevOptions
from tests import image_data
from tests.client import Refusal
from tests.controller.calls import Calls
from tests.controller.test_copies import MIB, image_of
from tests.fixtures.driver import StartDriver


@pytest.mark.usefixtures("clean_pool")
@pytest.mark.parametrize(("clone_format", "kind"), [("1", SnapKind.USER), ("2", SnapKind.TRASH)])
def test_a_copy_has_the_format_that_its_class_asks_for(
    calls: Calls, ceph_dev: DevCeph, pool: Pool, clone_format: str, kind: SnapKind
) -> None:
    """With format 1 the snap that was cut for a clone stays, and goes with it; both read right without the source."""
    source = calls.create("source", 8 * MIB)
    image_data.write(ceph_dev, image_of(source), b"data")
    copy = calls.create("copy", 0, source=source, parameters={"cloneFormat": clone_format})
    assert [snap.kind for snap in pool.images.inspect(image_of(source)).snaps] == [kind]
    conflict = calls.try_create("copy", 0, source=source)
    assert isinstance(conflict, Refusal)
    assert "cloneFormat" in conflict.message
    calls.delete_until_done(source.volume_id)
    assert image_data.read(ceph_dev, image_of(copy), 4) == b"data"
    calls.delete_until_done(copy.volume_id)


@pytest.fixture(scope="module")
def old_ceph(tmp_path_factory: pytest.TempPathFactory, release: str | None) -> Iterator[DevCeph]:
    """It lets clients in that know format 1 alone."""
    directory = tmp_path_factory.mktemp("allows-format-1") / "ceph"
    try:
        yield cluster.up(DevOptions(directory, clone_format_1=True, release=release))
    finally:
        cluster.down(directory, purge=True)


def test_format_2_is_refused_where_the_cluster_does_not_allow_it_and_nothing_is_left(
    old_ceph: DevCeph, start_driver: StartDriver
) -> None:
    """Also of a snap that is protected already, which librbd would clone in format 1."""
    driver = start_driver("--controller", clusters=old_ceph.config_json)
    calls = Calls(driver.rpc, old_ceph.secrets("provisioner"))
    source = calls.create("source", 8 * MIB)
    snapshot = calls.snapshot("snap", source.volume_id)
    refused = calls.refused_at_last("copy", size_bytes=0, source=snapshot, parameters={"cloneFormat": "2"})
    allowed = calls.create("allowed", 0, source=snapshot, parameters={"cloneFormat": "1"})
    of_protected = calls.refused_at_last("copy", size_bytes=0, source=snapshot, parameters={"cloneFormat": "2"})
    for one in (refused, of_protected):
        assert one.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "cloneFormat is 2" in one.message
        assert "set-require-min-compat-client" in one.message
    calls.delete_until_done(allowed.volume_id)
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    calls.delete_until_done(source.volume_id)
    assert leftovers(old_ceph, Place("rbd")) == frozenset()
