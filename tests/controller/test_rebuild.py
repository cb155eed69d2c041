"""`rbd-csi rebuild`: directories and entries are gone, images stay; afterwards every call works as before."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from csi_driver.ceph.api import Pool, Write
from csi_driver.dev.layout import DevCeph
from csi_driver.journal.layout import GROUPS, SNAPSHOTS, VOLUMES
from csi_driver.pb import csi_pb2 as pb
from tests import image_data
from tests.controller.calls import Calls
from tests.controller.kubernetes_objects import persistent_volume, snapshot_content, write_list
from tests.controller.planting import MIB, image_named, uuid_of
from tests.controller.test_audit import audit
from tests.controller.test_ceph_csi import plant_ceph_csi_snapshot, plant_ceph_csi_volume
from tests.fixtures.driver import StartDriver

pytestmark = pytest.mark.usefixtures("empty_pool")

_ENDED_S = 120
_POINTS = ["journal.restore:after", "journal.return_name:after", "journal.begin_complete:after"]
"""Every point there is stands in tests/simulation/test_rebuild.py."""


def rebuild(ceph: DevCeph, *arguments: str, clusters: Path | None = None, fail_at: str = "") -> Any:
    """What is, or would be, restored; None when the process was killed."""
    scope: tuple[str, ...] = ("--clusters", str(clusters or ceph.config_json), "--pool", "rbd", "--format", "json")
    if clusters is None:
        scope += ("--cluster", "dev")
    ended = subprocess.run(
        [sys.executable, "-m", "csi_driver", "rebuild", *arguments, *scope],
        capture_output=True,
        text=True,
        timeout=_ENDED_S,
        check=False,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", **({"RBD_CSI_FAILPOINTS": fail_at} if fail_at else {})},
    )
    if ended.returncode < 0:
        return None
    assert ended.returncode in (0, 1), ended.stderr
    return json.loads(ended.stdout)


def lose(pool: Pool, *, with_directories: bool = True) -> None:
    """The entries of all volumes, snapshots and groups, and the directories that lead to them."""
    kinds = (VOLUMES, SNAPSHOTS, GROUPS)
    entries, directories = (tuple(kind.object_prefix for kind in kinds), tuple(kind.directory_prefix for kind in kinds))
    for name in list(pool.objects.names()):
        if name.startswith(entries) or (with_directories and name.startswith(directories)):
            pool.objects.apply(name, Write(remove_object=True))


def acts(found: Sequence[dict[str, str]]) -> dict[str, str]:
    return {one["handle"]: one["restores"] for one in found}


class Family:
    """A volume with data, its snapshot, a restore and a clone, and what Kubernetes knows of them."""

    def __init__(self, ceph: DevCeph, calls: Calls) -> None:
        self._ceph = ceph
        self.calls = calls
        self.source = calls.create("pvc-source", MIB)
        image_data.write(ceph, image_named(self.source), b"kept data")
        self.snapshot = calls.snapshot("snapshot-1234", self.source.volume_id)
        self.restored = calls.create("pvc-restored", 0, source=self.snapshot)
        self.cloned = calls.create("pvc-cloned", 0, source=self.source)
        self.volumes = {"pvc-source": self.source, "pvc-restored": self.restored, "pvc-cloned": self.cloned}

    @property
    def handles(self) -> set[str]:
        return {self.snapshot.snapshot_id, *(volume.volume_id for volume in self.volumes.values())}

    def objects(self) -> list[dict[str, Any]]:
        found = [persistent_volume(name, volume) for name, volume in self.volumes.items()]
        return [*found, snapshot_content("1234", self.snapshot)]

    def use_and_delete(self) -> None:
        """Every call, with names and handles as they were."""
        calls, source = self.calls, self.source
        sources: dict[str, pb.Volume | pb.Snapshot | None] = {
            "pvc-source": None,
            "pvc-restored": self.snapshot,
            "pvc-cloned": source,
        }
        for name, copied in sources.items():
            again = calls.create(name, MIB if copied is None else 0, source=copied)
            assert uuid_of(again.volume_id) == uuid_of(self.volumes[name].volume_id)
            assert image_data.read(self._ceph, image_named(again), 9) == b"kept data"
        assert uuid_of(calls.snapshot("snapshot-1234", source.volume_id).snapshot_id) == uuid_of(
            self.snapshot.snapshot_id
        )
        another = calls.create("pvc-another", 0, source=self.snapshot)
        assert image_data.read(self._ceph, image_named(another), 9) == b"kept data"
        assert calls.expand(source.volume_id, 2 * MIB) == 2 * MIB
        cut = calls.snapshot("snapshot-5678", self.restored.volume_id)
        calls.delete_snapshot_until_done(cut.snapshot_id)
        calls.delete_snapshot_until_done(self.snapshot.snapshot_id)
        for volume in (*self.volumes.values(), another):
            calls.delete_until_done(volume.volume_id)


@pytest.mark.parametrize("with_directories", [True, False], ids=["all", "entries alone"])
def test_all_that_the_journal_lost_is_restored_from_what_kubernetes_knows(
    ceph_dev: DevCeph, calls: Calls, pool: Pool, tmp_path: Path, with_directories: bool
) -> None:
    family = Family(ceph_dev, calls)
    objects = str(write_list(tmp_path / "objects.json", family.objects()))
    assert rebuild(ceph_dev, "--objects", objects) == []
    lose(pool, with_directories=with_directories)
    expected = dict.fromkeys(family.handles, "entry")
    assert acts(rebuild(ceph_dev, "--objects", objects, "--dry-run")) == expected
    assert acts(rebuild(ceph_dev, "--objects", objects, "--yes")) == expected
    assert rebuild(ceph_dev, "--objects", objects) == []
    assert audit(ceph_dev) == {}
    family.use_and_delete()


@pytest.mark.parametrize("point", _POINTS)
def test_a_rebuild_that_is_killed_is_taken_up_by_the_next(
    ceph_dev: DevCeph, calls: Calls, pool: Pool, tmp_path: Path, point: str
) -> None:
    volume = calls.create("pvc-one", MIB)
    snapshot = calls.snapshot("snapshot-1", volume.volume_id)
    known = [persistent_volume("pvc-one", volume), snapshot_content("1", snapshot)]
    objects = str(write_list(tmp_path / "objects.json", known))
    lose(pool)
    assert rebuild(ceph_dev, "--objects", objects, "--yes", fail_at=f"{point}=kill") is None
    left = rebuild(ceph_dev, "--objects", objects, "--yes")
    assert left
    assert rebuild(ceph_dev, "--objects", objects) == []
    assert audit(ceph_dev) == {}
    assert calls.create("pvc-one", MIB).volume_id == volume.volume_id
    assert calls.snapshot("snapshot-1", volume.volume_id) == snapshot
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    calls.delete_until_done(volume.volume_id)


def test_what_the_go_driver_made_is_restored_in_its_layout(
    ceph_dev: DevCeph, calls: Calls, pool: Pool, tmp_path: Path
) -> None:
    source_uuid = plant_ceph_csi_volume(pool, "pvc-theirs")
    plant_ceph_csi_snapshot(pool, "snapshot-99", f"csi-vol-{source_uuid}")
    source = calls.create("pvc-theirs")
    snapshot = calls.snapshot("snapshot-99", source.volume_id)
    known = [persistent_volume("pvc-theirs", source), snapshot_content("99", snapshot)]
    before = {name: pool.objects.read(name) for name in pool.objects.names() if name.startswith("csi.snap.")}
    lose(pool)
    assert len(rebuild(ceph_dev, "--objects", str(write_list(tmp_path / "pv.json", known)), "--yes")) == 2
    assert {name: pool.objects.read(name) for name in before} == before
    assert audit(ceph_dev) == {}
    assert uuid_of(calls.create("pvc-theirs").volume_id) == source_uuid
    assert calls.snapshot("snapshot-99", source.volume_id) == snapshot
    copy = calls.create("pvc-copy", 0, source=snapshot)
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    for volume in (copy, source):
        calls.delete_until_done(volume.volume_id)


def test_what_disagrees_is_named_and_stays(ceph_dev: DevCeph, calls: Calls, pool: Pool, tmp_path: Path) -> None:
    """A name that another volume has, an entry with another name, and a volume without an image."""
    volumes = [calls.create(name, MIB) for name in ("pvc-a", "pvc-b", "pvc-c")]
    pool.objects.apply(VOLUMES.object(uuid_of(volumes[0].volume_id)), Write(remove_object=True))
    pool.objects.apply(VOLUMES.directory("default"), Write(drop=(VOLUMES.name_key("pvc-a"),)))
    lost = pb.Volume(volume_id=f"{volumes[0].volume_id[:-36]}50d53503-9da1-11ed-847e-bacf8f2f1297")
    known = [
        persistent_volume("pvc-b", volumes[0]),
        persistent_volume("pvc-x", volumes[2]),
        persistent_volume("pvc-lost", lost),
    ]
    objects = str(write_list(tmp_path / "objects.json", known))
    before = {name: pool.objects.read(name) for name in pool.objects.names() if name.startswith("csi.volume")}
    problems = {one["handle"]: one["problem"] for one in rebuild(ceph_dev, "--objects", objects, "--yes")}
    assert problems == {
        volumes[0].volume_id: f"the name is that of volume {uuid_of(volumes[1].volume_id)}",
        volumes[2].volume_id: "its entry has the name 'pvc-c'",
        lost.volume_id: "there is no image whose name ends in 50d53503-9da1-11ed-847e-bacf8f2f1297",
    }
    assert {name: pool.objects.read(name) for name in before} == before
    right = str(write_list(tmp_path / "right.json", [persistent_volume("pvc-a", volumes[0])]))
    assert acts(rebuild(ceph_dev, "--objects", right, "--yes")) == {volumes[0].volume_id: "entry"}
    for volume in volumes:
        calls.delete_until_done(volume.volume_id)


def test_images_that_say_whose_they_are_are_believed_where_it_is_asked_for(
    ceph_dev: DevCeph, calls: Calls, pool: Pool
) -> None:
    """Not a copy: it begins with what its source says."""
    prefix = "csi.storage.k8s.io/"
    said = {f"{prefix}pvc/name": "data", f"{prefix}pvc/namespace": "shop", f"{prefix}pv/name": "pvc-said"}
    volume = calls.create("pvc-said", MIB, parameters=said)
    copy = calls.create("pvc-copy", 0, source=volume, parameters={**said, f"{prefix}pv/name": "pvc-copy"})
    lose(pool)
    assert rebuild(ceph_dev) == []
    assert acts(rebuild(ceph_dev, "--metadata", "--yes")) == {volume.volume_id: "entry"}
    keys = pool.objects.read(VOLUMES.object(uuid_of(volume.volume_id))) or {}
    assert keys["csi.volume.owner"] == "shop"
    assert calls.create("pvc-said", MIB, parameters=said).volume_id == volume.volume_id
    pool.images.remove(image_named(copy))
    calls.delete_until_done(volume.volume_id)


def test_after_a_fail_over_the_old_handles_lead_to_the_volumes(
    ceph_dev: DevCeph, calls: Calls, pool: Pool, tmp_path: Path, start_driver: StartDriver
) -> None:
    """The same pool under another cluster id and with another pool id in the handles, as on the cluster that it was mirrored
    to, where no object of the journal is.
    """
    family = Family(ceph_dev, calls)
    (entry,) = [one for one in json.loads(ceph_dev.config_json.read_text()) if one["clusterID"] == "dev"]
    clusters = tmp_path / "clusters.json"
    clusters.write_text(json.dumps([{**entry, "clusterID": "second-site"}]))
    mapping = tmp_path / "cluster-mapping.json"
    pools = [{"77": str(pool.pool_id)}]
    mapping.write_text(json.dumps([{"clusterIDMapping": {"dev": "second-site"}, "RBDPoolIDMapping": pools}]))
    old_id, new_id = f"-{pool.pool_id:016x}-", f"-{77:016x}-"
    text = json.dumps(family.objects()).replace(old_id, new_id)
    objects = str(write_list(tmp_path / "objects.json", json.loads(text)))
    lose(pool)
    mapped = ("--objects", objects, "--cluster-mapping", str(mapping))
    restored = rebuild(ceph_dev, *mapped, "--yes", clusters=clusters)
    assert {one["cluster"] for one in restored} == {"second-site"}
    assert {uuid_of(one["handle"]) for one in restored} == {uuid_of(one) for one in family.handles}
    assert rebuild(ceph_dev, *mapped, clusters=clusters) == []

    driver = start_driver("--controller", "--cluster-mapping", str(mapping), clusters=clusters, node_id="second")
    family.calls = Calls(driver.rpc, calls.secrets, {"clusterID": "second-site", "pool": "rbd"})
    for volume in family.volumes.values():
        volume.volume_id = volume.volume_id.replace(old_id, new_id)
    family.snapshot.snapshot_id = family.snapshot.snapshot_id.replace(old_id, new_id)
    family.use_and_delete()
