"""What becomes of a cluster under a driver that runs: it goes on without a restart, once the trouble is over."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from csi_driver.dev import cluster
from csi_driver.dev.daemons import MON, osd_daemons
from csi_driver.dev.inventory import Place, leftovers
from csi_driver.dev.layout import DevCeph, DevOptions
from csi_driver.pb import csi_pb2 as pb
from tests import ceph_daemons
from tests.client import Refusal, refusal_of
from tests.controller.calls import UNFINISHED, Calls
from tests.driver import DriverProcess

_GOES_ON_WITHIN_S = 120.0
"""On a loaded machine; a second or two where nothing else runs."""


@pytest.fixture(scope="module")
def restless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCeph]:
    """A cluster of its own, since its daemons and keys are changed."""
    directory = tmp_path_factory.mktemp("restless") / "ceph"
    try:
        yield cluster.up(DevOptions(directory))
    finally:
        cluster.down(directory, purge=True)


@pytest.fixture(scope="module")
def clusters_file(restless: DevCeph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clusters") / "config.json"
    ceph_daemons.write_clusters_file(restless, path)
    return path


@pytest.fixture(scope="module")
def driver(clusters_file: Path) -> Iterator[DriverProcess]:
    """One process for all tests of this file."""
    with DriverProcess.start("--controller", "--timeout", "10", clusters=clusters_file) as driver:
        yield driver


@pytest.fixture
def calls(restless: DevCeph, driver: DriverProcess) -> Iterator[Calls]:
    """Of a user who is known; at the end the process is the one that was started, and nothing is left in the pool."""
    pid = driver.pid
    yield Calls(driver.rpc, restless.secrets("admin"))
    assert driver.pid == pid
    assert leftovers(restless, Place("rbd")) == frozenset()


def live(calls: Calls) -> None:
    """A volume and its snapshot come and go, each call repeated until it is answered."""
    deadline = time.monotonic() + _GOES_ON_WITHIN_S
    volume = in_time(lambda: calls.try_create("lives", 1 << 20), deadline)
    assert isinstance(volume, pb.Volume)
    snapshot = in_time(lambda: calls.try_snapshot("lives", volume.volume_id), deadline)
    assert isinstance(snapshot, pb.Snapshot)
    in_time(lambda: calls.delete_snapshot(snapshot.snapshot_id), deadline)
    in_time(lambda: calls.delete(volume.volume_id), deadline)


def in_time(call: Callable[[], object], deadline: float) -> object:
    while isinstance(answer := call(), Refusal):
        assert answer.code in UNFINISHED, answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)  # a sidecar waits longer
    return answer


def test_after_its_clients_are_blocklisted(calls: Calls, restless: DevCeph) -> None:
    """As another replica's fence, or an operator, does to a driver that is alive."""
    live(calls)
    for address in ceph_daemons.maker_addresses(restless):
        restless.ceph("osd", "blocklist", "add", address)
    live(calls)


def test_after_an_osd_was_restarted(calls: Calls, restless: DevCeph) -> None:
    live(calls)
    ceph_daemons.restart(restless, osd_daemons(1)[0])
    live(calls)


def test_after_the_monitor_was_restarted(calls: Calls, restless: DevCeph) -> None:
    live(calls)
    ceph_daemons.restart(restless, MON)
    live(calls)
    live(replace(calls, secrets=restless.secrets("provisioner")))  # a user who connects only now


def test_after_keys_were_changed(calls: Calls, restless: DevCeph, clusters_file: Path) -> None:
    """One of the secrets, and the driver's own one in the clusters file: who has the new ones is served at once."""
    old, caller = restless.secrets("provisioner"), replace(calls, secrets=restless.secrets("provisioner"))
    live(caller)
    assert listed(calls) == []
    new = ceph_daemons.change_key(restless, "provisioner")
    live(replace(calls, secrets=new))
    for address in ceph_daemons.maker_addresses(
        restless
    ):  # so that nothing is left of the connection that knew the old
        restless.ceph("osd", "blocklist", "add", address)
    live(replace(calls, secrets=new))
    assert refused_at_last(replace(calls, secrets=old)).code is grpc.StatusCode.UNAUTHENTICATED
    ceph_daemons.write_clusters_file(restless, clusters_file, own=new)
    assert listed(calls) == []
    live(replace(calls, secrets={}))  # of the clusters file


def test_after_the_monitor_was_moved(
    calls: Calls, restless: DevCeph, driver: DriverProcess, clusters_file: Path
) -> None:
    """Connections learn of it from the monitor; new ones, when the clusters file was changed. The last test of this file."""
    live(calls)
    own = json.loads(clusters_file.read_text())[0]["credentials"]
    monitor = ceph_daemons.move_monitor(restless)
    live(calls)
    ceph_daemons.write_clusters_file(restless, clusters_file, monitor=monitor, own=own)
    live(calls)
    live(replace(calls, secrets=restless.secrets("node")))  # a user who connects only now
    assert listed(calls) == []
    assert driver.rpc.identity.Probe(pb.ProbeRequest(), timeout=60).ready.value


def listed(calls: Calls) -> list[str]:
    """With the driver's own credentials; no secrets come with it."""
    deadline = time.monotonic() + _GOES_ON_WITHIN_S

    def try_list() -> object:
        try:
            return calls.driver.controller.ListVolumes(pb.ListVolumesRequest(), timeout=60)
        except grpc.RpcError as error:
            return refusal_of(error)

    answer = in_time(try_list, deadline)
    assert isinstance(answer, pb.ListVolumesResponse)
    return [entry.volume.volume_id for entry in answer.entries]


def refused_at_last(calls: Calls) -> Refusal:
    """What a user with a key of yesterday is told, once nothing of a former connection stands for them."""
    deadline = time.monotonic() + _GOES_ON_WITHIN_S
    while True:
        answer = calls.try_create("refused")
        assert isinstance(answer, Refusal), answer
        if answer.code not in UNFINISHED:
            return answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)
