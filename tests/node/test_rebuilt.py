"""A node stages a volume whose journal was lost and rebuilt, by the handle that it had on another cluster."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from csi_driver.addresses import Credentials
from csi_driver.ceph.cluster import RadosClusters, Timeouts
from csi_driver.config import read_clusters
from csi_driver.dev.inventory import Place, leftovers
from csi_driver.dev.layout import DevCeph
from tests.controller.calls import Calls
from tests.controller.kubernetes_objects import persistent_volume, write_list
from tests.controller.test_rebuild import lose, rebuild
from tests.fixtures.driver import StartDriver
from tests.node.bench import capability
from tests.node.node_process import Node
from tests.node.test_replay import SIZE_BYTES

_OLD_POOL = 77


@pytest.fixture
def empty_pool(ceph_dev: DevCeph, start_driver: StartDriver) -> Iterator[None]:
    yield
    assert leftovers(ceph_dev, Place("rbd")) == frozenset()


@pytest.mark.usefixtures("empty_pool")
def test_a_volume_is_staged_grown_and_deleted_by_the_handle_of_the_cluster_that_is_gone(
    ceph_dev: DevCeph, start_driver: StartDriver, tmp_path: Path
) -> None:
    directories = [tmp_path / name for name in ("east", "west")]
    for one in directories:
        one.mkdir()
    secrets = dict(ceph_dev.secrets("node"))
    east = start_driver("--driver-name", "east.csi.test", clusters=ceph_dev.config_json, node_id="east")
    volume = Calls(east.rpc, ceph_dev.secrets("provisioner")).create("pvc-kept", SIZE_BYTES)
    before = Node(east, directories[0], secrets)
    (before.use(volume, capability(), name="kept") / "file").write_text("kept")
    before.leave()

    (entry,) = [one for one in json.loads(ceph_dev.config_json.read_text()) if one["clusterID"] == "dev"]
    clusters, mapping = tmp_path / "clusters.json", tmp_path / "cluster-mapping.json"
    clusters.write_text(json.dumps([{**entry, "clusterID": "west"}]))
    reached = RadosClusters(lambda: read_clusters(ceph_dev.config_json), Timeouts())
    with reached.connect("dev", Credentials("admin", ceph_dev.keys["admin"])) as cluster, cluster.pool("rbd") as pool:
        pools = [{str(_OLD_POOL): str(pool.pool_id)}]
        mapping.write_text(json.dumps([{"clusterIDMapping": {"dev": "west"}, "RBDPoolIDMapping": pools}]))
        volume.volume_id = volume.volume_id.replace(f"-{pool.pool_id:016x}-", f"-{_OLD_POOL:016x}-")
        lose(pool)
    reached.close()
    objects = str(write_list(tmp_path / "objects.json", [persistent_volume("pvc-kept", volume)]))
    restored = rebuild(ceph_dev, "--objects", objects, "--cluster-mapping", str(mapping), "--yes", clusters=clusters)
    assert [one["restores"] for one in restored] == ["entry"]

    flags = ("--driver-name", "west.csi.test", "--cluster-mapping", str(mapping))
    west = start_driver(*flags, clusters=clusters, node_id="west")
    after = Node(west, directories[1], secrets)
    calls = Calls(west.rpc, ceph_dev.secrets("provisioner"))
    assert calls.expand(volume.volume_id, 2 * SIZE_BYTES) == 2 * SIZE_BYTES
    assert (after.use(volume, capability(), name="kept") / "file").read_text() == "kept"
    after.leave()
    calls.delete_until_done(volume.volume_id)
