"""Two drivers on one pool, as two replicas of which both believe that they lead."""

import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from csi_driver.ceph.api import Pool, Write
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests.client import Refusal
from tests.controller.calls import UNFINISHED, Calls, handle_parts
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver
from tests.rpc.valid_requests import GIB

pytestmark = pytest.mark.usefixtures("clean_pool")

Pair = tuple[DriverProcess, DriverProcess]


@pytest.fixture
def pair(ceph_dev: DevCeph, start_driver: StartDriver) -> Pair:
    one, two = (
        start_driver("--controller", clusters=ceph_dev.config_json, node_id=node) for node in ("node-1", "node-2")
    )
    return one, two


def test_64_creates_of_one_name_through_two_processes_make_one_volume(
    ceph_dev: DevCeph, pair: Pair, pool: Pool
) -> None:
    callers = [Calls(driver.rpc, ceph_dev.secrets("provisioner")) for driver in pair]
    for caller in callers:  # both have entered the pool
        caller.delete_until_done(caller.create_until_done("first").volume_id)
    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda number: callers[number % 2].try_create("one"), range(64)))
    made = [answer for answer in answers if isinstance(answer, pb.Volume)]
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert made
    assert len({volume.volume_id for volume in made}) == 1
    assert {answer.code for answer in refused} <= {grpc.StatusCode.ABORTED}
    assert all("one" in answer.message for answer in refused)
    callers[0].delete_until_done(made[0].volume_id)


@pytest.mark.parametrize(
    "point",
    [
        "journal.claim:after",
        "images.create:before",
        "images.create:after",
        "journal.complete:before",
    ],
)
def test_a_maker_paused_overtaken_and_let_go_on_harms_nothing(
    ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool, point: str
) -> None:
    """It is fenced before its work is taken over, so that whatever it still does fails."""
    secrets = ceph_dev.secrets("provisioner")
    slow = start_driver(
        "--controller", clusters=ceph_dev.config_json, environment={"RBD_CSI_FAILPOINTS": f"{point}=stop"}
    )
    quick = start_driver("--controller", clusters=ceph_dev.config_json, node_id="node-2")
    with ThreadPoolExecutor(1) as thread:
        paused = thread.submit(Calls(slow.rpc, secrets).try_create, "paused")
        slow.await_pause()
        let_grace_time_pass(pool, "paused")
        volume = Calls(quick.rpc, secrets).create_until_done("paused")
        slow.resume()
        late = paused.result(60)
    assert isinstance(late, Refusal) or late.volume_id == volume.volume_id
    if isinstance(late, Refusal):
        assert late.code in UNFINISHED
    for driver in (slow, quick):
        assert Calls(driver.rpc, secrets).create_until_done("paused").volume_id == volume.volume_id
    assert pool.images.inspect(volume.volume_context["imageName"]).size_bytes == GIB
    Calls(slow.rpc, secrets).delete_until_done(volume.volume_id)


@pytest.mark.parametrize(
    "point", ["journal.mark_deleting:after", "images.move_to_trash:after", "journal.release_name:after"]
)
def test_a_delete_paused_overtaken_and_let_go_on_harms_nothing(
    ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool, point: str
) -> None:
    """The other process fences it and finishes, and a new volume of the same name lives on untouched."""
    secrets = ceph_dev.secrets("provisioner")
    slow = start_driver(
        "--controller", clusters=ceph_dev.config_json, environment={"RBD_CSI_FAILPOINTS": f"{point}=stop"}
    )
    quick = start_driver("--controller", clusters=ceph_dev.config_json, node_id="node-2")
    old = Calls(quick.rpc, secrets).create("paused")
    with ThreadPoolExecutor(1) as thread:
        paused = thread.submit(Calls(slow.rpc, secrets).delete, old.volume_id)
        slow.await_pause()
        fenced = pool.cluster.blocklisted()
        Calls(quick.rpc, secrets).delete_until_done(old.volume_id)
        assert pool.cluster.blocklisted() - fenced
        new = Calls(quick.rpc, secrets).create_until_done("paused")
        slow.resume()
        late = paused.result(60)
    assert late is None or late.code in UNFINISHED
    assert new.volume_id != old.volume_id
    assert Calls(slow.rpc, secrets).create_until_done("paused") == new
    Calls(slow.rpc, secrets).delete_until_done(new.volume_id)


def let_grace_time_pass(pool: Pool, name: str) -> None:
    """As if the volume had been begun long ago."""
    directory = "csi.volumes.default"
    uuid = pool.objects.read_key(directory, f"csi.volume.{name}")
    assert uuid
    if note := pool.objects.read_key(directory, f"making.{uuid}"):
        pool.objects.apply(directory, Write(put={f"making.{uuid}": json.dumps(json.loads(note) | {"made_at": "0"})}))
    elif pool.objects.read(f"csi.volume.{uuid}") is not None:
        pool.objects.apply(f"csi.volume.{uuid}", Write(compare={"state": "making"}, put={"made_at": "0"}))


def test_handles_of_two_processes_are_of_one_form(ceph_dev: DevCeph, pair: Pair) -> None:
    one, two = (Calls(driver.rpc, ceph_dev.secrets("provisioner")) for driver in pair)
    volume = one.create("shared")
    assert handle_parts(two.create("shared").volume_id) == handle_parts(volume.volume_id)
    two.delete_until_done(volume.volume_id)
    assert one.delete(volume.volume_id) is None
