"""ControllerPublishVolume and its opposite on a real Ceph: codes, killed at each step, and two processes for one volume."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from csi_driver.ceph.api import Pool
from csi_driver.dev.layout import DevCeph
from csi_driver.journal.publications import parse_publications
from csi_driver.pb import csi_pb2 as pb
from tests.client import Refusal, refusal_of
from tests.controller.calls import UNFINISHED, Calls
from tests.controller.test_ceph_csi import plant_ceph_csi_volume
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver
from tests.rpc.valid_requests import block, mounted

Code = grpc.StatusCode
Mode = pb.VolumeCapability.AccessMode
LIMIT = 3


@dataclass(frozen=True)
class Publishing:
    """A caller of one driver. secrets: none, where a volume's are not known, as with many old volumes."""

    calls: Calls
    with_secrets: bool = True

    def publish(
        self, volume_id: str, node_id: str, capability: pb.VolumeCapability | None = None, *, readonly: bool = False
    ) -> dict[str, str] | Refusal:
        """The publish context."""
        request = pb.ControllerPublishVolumeRequest(
            volume_id=volume_id,
            node_id=node_id,
            volume_capability=capability or mounted(),
            readonly=readonly,
            secrets=self.calls.secrets if self.with_secrets else {},
        )
        try:
            return dict(self.calls.driver.controller.ControllerPublishVolume(request, timeout=120).publish_context)
        except grpc.RpcError as error:
            return refusal_of(error)

    def unpublish(self, volume_id: str, node_id: str = "") -> Refusal | None:
        request = pb.ControllerUnpublishVolumeRequest(
            volume_id=volume_id, node_id=node_id, secrets=self.calls.secrets if self.with_secrets else {}
        )
        try:
            self.calls.driver.controller.ControllerUnpublishVolume(request, timeout=120)
        except grpc.RpcError as error:
            return refusal_of(error)
        return None

    def publish_until_done(self, volume_id: str, node_id: str) -> None:
        while isinstance(answer := self.publish(volume_id, node_id), Refusal):
            assert answer.code in UNFINISHED, answer

    def unpublish_until_done(self, volume_id: str, node_id: str = "") -> None:
        while answer := self.unpublish(volume_id, node_id):
            assert answer.code in UNFINISHED, answer

    def nodes_of(self, volume_id: str) -> list[str]:
        """As both kinds of looks tell it."""
        controller = self.calls.driver.controller
        alone = controller.ControllerGetVolume(pb.ControllerGetVolumeRequest(volume_id=volume_id))
        listed = {entry.volume.volume_id: entry for entry in controller.ListVolumes(pb.ListVolumesRequest()).entries}
        assert listed[volume_id].status == pb.ListVolumesResponse.VolumeStatus(
            published_node_ids=alone.status.published_node_ids
        )
        return list(alone.status.published_node_ids)


def start_node(clusters: Path, node_id: str) -> DriverProcess:
    """A node plugin that the controller knows when this returns."""
    driver = DriverProcess.start("--node", "--max-volumes-per-node", str(LIMIT), clusters=clusters, node_id=node_id)
    assert driver.rpc.node.NodeGetInfo(pb.NodeGetInfoRequest()).node_id == node_id
    return driver


@pytest.fixture(scope="module", autouse=True)
def nodes(ceph_dev: DevCeph) -> None:
    """`node-a` and `node-b`, which stay known when their plugins are gone."""
    for node_id in ("node-a", "node-b"):
        with start_node(ceph_dev.config_json, node_id):
            pass


@pytest.fixture
def publishing(calls: Calls) -> Publishing:
    return Publishing(calls)


@pytest.fixture
def volume_id(calls: Calls, publishing: Publishing) -> Iterator[str]:
    """A volume that is published nowhere; deleted after the test, whatever has it."""
    made = calls.create("published").volume_id
    yield made
    publishing.unpublish_until_done(made)
    calls.delete_until_done(made)


def refused(answer: object, code: grpc.StatusCode, *names: str) -> bool:
    assert isinstance(answer, Refusal), answer
    assert answer.code is code, answer
    assert [name for name in names if name not in answer.message] == [], answer
    return True


def test_a_volume_is_published_to_one_node_until_it_is_withdrawn(
    publishing: Publishing, calls: Calls, volume_id: str
) -> None:
    for _ in range(3):
        assert publishing.publish(volume_id, "node-a") == {}
    assert publishing.nodes_of(volume_id) == ["node-a"]
    assert refused(publishing.publish(volume_id, "node-b"), Code.FAILED_PRECONDITION, "node-a")
    assert refused(calls.delete(volume_id), Code.FAILED_PRECONDITION, "node-a")
    for _ in range(3):
        assert publishing.unpublish(volume_id, "node-a") is None
    assert publishing.nodes_of(volume_id) == []
    assert publishing.publish(volume_id, "node-b") == {}
    assert publishing.unpublish(volume_id, "node-a") is None
    assert publishing.nodes_of(volume_id) == ["node-b"]


def test_the_same_node_in_another_way_is_a_conflict(publishing: Publishing, volume_id: str) -> None:
    publishing.publish(volume_id, "node-a")
    assert refused(publishing.publish(volume_id, "node-a", readonly=True), Code.ALREADY_EXISTS, "read-only")
    assert refused(publishing.publish(volume_id, "node-a", mounted("xfs")), Code.ALREADY_EXISTS, "xfs")
    other = mounted(mode=Mode.SINGLE_NODE_MULTI_WRITER)
    assert refused(publishing.publish(volume_id, "node-a", other), Code.ALREADY_EXISTS)
    assert publishing.publish(volume_id, "node-a") == {}


def test_a_read_only_publish_says_so_to_the_node(publishing: Publishing, volume_id: str) -> None:
    assert publishing.publish(volume_id, "node-a", readonly=True) == {"readonly": "true"}


def test_a_shared_volume_is_withdrawn_from_all_nodes_at_once(publishing: Publishing, volume_id: str) -> None:
    shared = block(Mode.MULTI_NODE_MULTI_WRITER)
    assert publishing.publish(volume_id, "node-a", shared) == {}
    assert publishing.publish(volume_id, "node-b", shared) == {}
    assert publishing.nodes_of(volume_id) == ["node-a", "node-b"]
    assert publishing.unpublish(volume_id) is None
    assert publishing.nodes_of(volume_id) == []


def test_without_secrets_the_clusters_own_credentials_do(publishing: Publishing, volume_id: str) -> None:
    bare = Publishing(publishing.calls, with_secrets=False)
    assert bare.publish(volume_id, "node-a") == {}
    assert bare.nodes_of(volume_id) == ["node-a"]
    assert bare.unpublish(volume_id, "node-a") is None


def test_a_node_has_no_more_volumes_than_its_limit_over_all_pools(publishing: Publishing, calls: Calls) -> None:
    made = [calls.create(f"limit-{n}", parameters={"pool": ("rbd", "second")[n % 2]}).volume_id for n in range(4)]
    for volume_id in made[:LIMIT]:
        assert publishing.publish(volume_id, "node-a") == {}
    assert refused(publishing.publish(made[3], "node-a"), Code.RESOURCE_EXHAUSTED, "node-a", str(LIMIT))
    assert publishing.nodes_of(made[3]) == []
    assert publishing.publish(made[0], "node-a") == {}, "what it has is no more"
    assert publishing.publish(made[3], "node-b") == {}
    assert publishing.unpublish(made[1], "node-a") is None
    assert publishing.unpublish(made[3]) is None
    assert publishing.publish(made[3], "node-a") == {}
    for volume_id in made:
        assert publishing.unpublish(volume_id) is None
        calls.delete_until_done(volume_id)


def test_what_is_gone_is_withdrawn(publishing: Publishing, calls: Calls) -> None:
    """A volume that was deleted, and one that never was."""
    made = calls.create("gone").volume_id
    calls.delete_until_done(made)
    for node_id in ("node-a", "", "none"):
        assert publishing.unpublish(made, node_id) is None
        assert publishing.unpublish("fake-vol-id", node_id) is None
    assert refused(publishing.publish(made, "node-a"), Code.NOT_FOUND, made)


def test_a_volume_of_the_go_driver_is_published_in_place(publishing: Publishing, calls: Calls, pool: Pool) -> None:
    """Its entry gets the record, and the Go driver's keys stay as they are."""
    volume_uuid = plant_ceph_csi_volume(pool, "theirs")
    before = pool.objects.read(f"csi.volume.{volume_uuid}") or {}
    volume_id = calls.create("theirs").volume_id
    assert publishing.publish(volume_id, "node-a") == {}
    after = pool.objects.read(f"csi.volume.{volume_uuid}") or {}
    assert {key: text for key, text in after.items() if key != "publications"} == before
    assert list(parse_publications(after["publications"])) == ["node-a"]
    assert refused(calls.delete(volume_id), Code.FAILED_PRECONDITION, "node-a")
    assert publishing.unpublish(volume_id, "node-a") is None
    calls.delete_until_done(volume_id)


def test_of_two_processes_one_node_wins(
    publishing: Publishing, ceph_dev: DevCeph, start_driver: StartDriver, volume_id: str
) -> None:
    """Every time, whoever is faster; and each says the same afterwards."""
    second = start_driver("--controller", clusters=ceph_dev.config_json, node_id="node-2")
    other = Publishing(Calls(second.rpc, ceph_dev.secrets("provisioner")))
    callers = [(publishing, "node-a"), (other, "node-b")]

    def publish(caller: tuple[Publishing, str]) -> str:
        while isinstance(answer := caller[0].publish(volume_id, caller[1]), Refusal):
            if answer.code is Code.FAILED_PRECONDITION:
                return ""
            assert answer.code in UNFINISHED, answer
        return caller[1]

    with ThreadPoolExecutor(2) as threads:
        for _ in range(20):
            won = [node_id for node_id in threads.map(publish, callers) if node_id]
            assert len(won) == 1
            assert publishing.nodes_of(volume_id) == other.nodes_of(volume_id) == won
            publishing.unpublish_until_done(volume_id, won[0])


PUBLISH_STEPS = ("nodes.claim", "journal.record_publications", "nodes.hold")
UNPUBLISH_STEPS = ("journal.record_publications", "nodes.drop_claim")


def claims(pool: Pool, node_id: str) -> list[str]:
    return list(pool.objects.read(f"csi.node.default.{node_id}") or {})


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_driver_killed_in_a_publish_is_followed_by_one_that_ends_it(
    when: str, ceph_dev: DevCeph, start_driver: StartDriver, volume_id: str, pool: Pool
) -> None:
    """At each step of the publish, then at each of the unpublish; the claims say in the end what the journal says."""
    driver = start_driver("--controller", clusters=ceph_dev.config_json, node_id="node-3")
    publishing = Publishing(Calls(driver.rpc, ceph_dev.secrets("provisioner")))
    for step in PUBLISH_STEPS:
        kill_at(driver, step, when, lambda: publishing.publish(volume_id, "node-a"))
        publishing.publish_until_done(volume_id, "node-a")
        assert publishing.nodes_of(volume_id) == ["node-a"]
        assert claims(pool, "node-a") == [volume_id[-36:]]
        publishing.unpublish_until_done(volume_id, "node-a")
    for step in UNPUBLISH_STEPS:
        publishing.publish_until_done(volume_id, "node-a")
        kill_at(driver, step, when, lambda: publishing.unpublish(volume_id, "node-a"))
        publishing.unpublish_until_done(volume_id, "node-a")
        assert publishing.nodes_of(volume_id) == []
        assert claims(pool, "node-a") == []


def kill_at(driver: DriverProcess, step: str, when: str, call: object) -> None:
    """The driver dies at the step, and runs again."""
    assert callable(call)
    driver.stop()
    driver.restart({"RBD_CSI_FAILPOINTS": f"{step}:{when}=kill"})
    answer = call()
    assert isinstance(answer, Refusal), f"{step} was not reached"
    driver.await_death()
    driver.restart({})


def test_without_own_credentials_nothing_is_published(
    ceph_dev: DevCeph, start_driver: StartDriver, tmp_path: Path, volume_id: str
) -> None:
    entries = json.loads(ceph_dev.config_json.read_text())
    del entries[0]["credentials"]
    clusters = tmp_path / "clusters.json"
    clusters.write_text(json.dumps(entries))
    driver = start_driver(clusters=clusters)
    publishing = Publishing(Calls(driver.rpc, ceph_dev.secrets("provisioner")))
    assert refused(publishing.publish(volume_id, "node-a"), Code.UNIMPLEMENTED)
    assert refused(publishing.unpublish(volume_id, "node-a"), Code.UNIMPLEMENTED)


def test_an_image_of_somebody_else_is_published_and_never_deleted(
    publishing: Publishing, ceph_dev: DevCeph, calls: Calls
) -> None:
    """A static volume: its name is its id, and nothing is recorded of it."""
    ceph_dev.rbd("create", "--size", "16M", "rbd/precious")
    try:
        request = pb.ControllerPublishVolumeRequest(
            volume_id="precious",
            node_id="node-a",
            volume_capability=mounted(),
            readonly=True,
            secrets=calls.secrets,
            volume_context={"staticVolume": "true", "clusterID": "dev", "pool": "rbd"},
        )
        answer = calls.driver.controller.ControllerPublishVolume(request, timeout=120)
        assert dict(answer.publish_context) == {"readonly": "true"}
        assert publishing.unpublish("precious", "node-a") is None
        assert calls.delete("precious") is None
        assert "precious" in ceph_dev.rbd("ls", "rbd").split()
        request.node_id = "no-node"
        with pytest.raises(grpc.RpcError) as refused_by:
            calls.driver.controller.ControllerPublishVolume(request, timeout=120)
        assert refusal_of(refused_by.value).code is Code.NOT_FOUND
    finally:
        ceph_dev.rbd("rm", "--no-progress", "rbd/precious")
