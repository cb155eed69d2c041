"""The driver as a process: what a crash, a pause, an orderly end and a wrong start come to."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from csi_driver.dev.inventory import Place, inventory
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests.client import refusal
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver
from tests.rpc.valid_requests import create_volume


def delete(ceph: DevCeph, volume_id: str) -> pb.DeleteVolumeRequest:
    return pb.DeleteVolumeRequest(volume_id=volume_id, secrets=ceph.secrets("provisioner"))


def test_a_volume_outlives_the_process_that_made_it(ceph_dev: DevCeph, start_driver: StartDriver) -> None:
    """After SIGKILL and a restart on the same socket the same request answers the same volume."""
    driver = start_driver(clusters=ceph_dev.config_json)
    request = create_volume("outlives", ceph_dev)
    volume = driver.rpc.controller.CreateVolume(request).volume
    driver.kill()
    driver.restart()
    assert driver.rpc.controller.CreateVolume(request).volume == volume
    driver.rpc.controller.DeleteVolume(delete(ceph_dev, volume.volume_id))


def test_two_drivers_answer_one_volume_for_one_name(ceph_dev: DevCeph, start_driver: StartDriver) -> None:
    """A second controller knows what the first has made, and what it has deleted."""
    one = start_driver(clusters=ceph_dev.config_json)
    two = start_driver(clusters=ceph_dev.config_json, node_id="node-2")
    request = create_volume("shared", ceph_dev)
    volume = one.rpc.controller.CreateVolume(request).volume
    assert two.rpc.controller.CreateVolume(request).volume == volume
    two.rpc.controller.DeleteVolume(delete(ceph_dev, volume.volume_id))
    validate = pb.ValidateVolumeCapabilitiesRequest(
        volume_id=volume.volume_id,
        volume_capabilities=request.volume_capabilities,
        secrets=ceph_dev.secrets("provisioner"),
    )
    answer = refusal(one.rpc.controller.ValidateVolumeCapabilities, validate)
    assert answer is not None
    assert answer.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_a_driver_left_in_the_trash_the_next_one_clears(
    end: str, ceph_dev: DevCeph, start_driver: StartDriver
) -> None:
    """DeleteVolume answers before the data is gone: a driver that ends right then leaves nothing, and no call is needed."""
    driver = start_driver(clusters=ceph_dev.config_json)
    handles = delete_three(driver, ceph_dev)
    getattr(driver, end)()
    driver.restart()
    assert left_of(ceph_dev, handles) == []


def test_without_credentials_of_its_own_a_driver_goes_on_at_the_first_call(
    ceph_dev: DevCeph, start_driver: StartDriver, tmp_path: Path
) -> None:
    without = [
        {key: value for key, value in cluster.items() if key != "credentials"}
        for cluster in json.loads(ceph_dev.config_json.read_text())
    ]
    clusters = tmp_path / "clusters.json"
    clusters.write_text(json.dumps(without))
    driver = start_driver(clusters=clusters)
    handles = delete_three(driver, ceph_dev)
    driver.kill()
    driver.restart()
    driver.rpc.controller.DeleteVolume(delete(ceph_dev, handles[0]))
    assert left_of(ceph_dev, handles) == []


def delete_three(driver: DriverProcess, ceph: DevCeph) -> list[str]:
    """Three volumes, made and deleted: their ids."""
    handles = [driver.rpc.controller.CreateVolume(create_volume(f"left-{n}", ceph)).volume.volume_id for n in "abc"]
    for handle in handles:
        driver.rpc.controller.DeleteVolume(delete(ceph, handle))
    return handles


def left_of(ceph: DevCeph, handles: list[str]) -> list[str]:
    """What is left of volumes, given time."""
    deadline = time.monotonic() + 60
    while (left := of_volumes(ceph, handles)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def of_volumes(ceph: DevCeph, handles: list[str]) -> list[str]:
    return [line for line in inventory(ceph, Place("rbd")) if any(handle[-36:] in line for handle in handles)]


def test_a_paused_driver_goes_on_where_it_stood(ceph_dev: DevCeph, start_driver: StartDriver) -> None:
    """SIGSTOP keeps the socket and answers nothing; after SIGCONT the driver serves as before."""
    driver = start_driver(clusters=ceph_dev.config_json)
    driver.pause()
    assert not driver.rpc.is_ready(timeout_s=0.5)
    driver.resume()
    assert driver.rpc.is_ready(timeout_s=10)


def test_an_orderly_end_takes_the_socket_along(ceph_dev: DevCeph, start_driver: StartDriver) -> None:
    """SIGTERM ends the driver with code 0, and no socket that nobody serves is left."""
    driver = start_driver(clusters=ceph_dev.config_json)
    assert [path.name for path in driver.socket.parent.iterdir()] == [driver.socket.name]
    driver.stop()
    assert list(driver.socket.parent.iterdir()) == []


def test_a_socket_has_one_driver(ceph_dev: DevCeph, start_driver: StartDriver) -> None:
    """A second driver on the same socket ends at once with code 2 and says why; the first serves on."""
    driver = start_driver(clusters=ceph_dev.config_json)
    second = serve("--endpoint", f"unix://{driver.socket}", "--clusters", str(ceph_dev.config_json))
    assert second.returncode == 2
    assert str(driver.socket) in second.stderr
    assert driver.rpc.is_ready(timeout_s=10)


CLUSTER = '{"clusterID": "a", "monitors": ["127.0.0.1:3300"]}'


@pytest.mark.parametrize(
    ("clusters", "names"),
    [
        (None, "clusters.json"),
        ("", "clusters.json"),
        ("{", "clusters.json"),
        ('{"clusterID": "a"}', "list"),
        ('[{"monitors": ["127.0.0.1:3300"]}]', "clusterID"),
        ('[{"clusterID": "a"}]', "monitors"),
        ('[{"clusterID": "a", "monitors": []}]', "monitors"),
        ('[{"clusterID": "", "monitors": ["127.0.0.1:3300"]}]', "clusterID"),
        ('[{"clusterID": 7, "monitors": ["127.0.0.1:3300"]}]', "clusterID"),
        ('[{"clusterID": "a", "monitors": "127.0.0.1:3300"}]', "monitors"),
        (f'[{{"clusterID": "{"a" * 65}", "monitors": ["127.0.0.1:3300"]}}]', "clusterID"),
        (f"[{CLUSTER}, {CLUSTER}]", "clusterID"),
    ],
)
def test_a_wrong_clusters_file_ends_the_driver_at_once(clusters: str | None, names: str, tmp_path: Path) -> None:
    """Code 2 and one line that names the file or the key, before the socket opens."""
    file, socket = tmp_path / "clusters.json", tmp_path / "csi.sock"
    if clusters is not None:
        file.write_text(clusters)
    ended = serve("--endpoint", f"unix://{socket}", "--clusters", str(file))
    assert ended.returncode == 2, ended.stderr
    assert names in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not socket.exists()


@pytest.mark.parametrize(
    "endpoint",
    ["", "csi.sock", "tcp://127.0.0.1:9000", "unix://", "unix:///no/such/directory/csi.sock", "unix:///" + "x" * 108],
)
def test_a_wrong_endpoint_ends_the_driver_at_once(endpoint: str, ceph_dev: DevCeph) -> None:
    """Only a UNIX socket at an absolute path that fits is served; anything else is code 2 and a line that says so."""
    ended = serve("--endpoint", endpoint, "--clusters", str(ceph_dev.config_json))
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "endpoint" in ended.stderr


def test_an_interrupt_ends_the_driver_in_good_order(ceph_dev: DevCeph, start_driver: StartDriver) -> None:
    """SIGINT is SIGTERM for whoever runs the driver in a terminal."""
    driver = start_driver(clusters=ceph_dev.config_json)
    driver.send(signal.SIGINT)
    assert driver.wait() == 0


def serve(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """A driver that is expected to end by itself."""
    command = [sys.executable, "-m", "csi_driver", "serve", "--node-id", "node-1", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
