"""What a running driver tells of itself: metrics, health over HTTP, traces; and the dashboard and alerts that use them."""

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from csi_driver.config import ConfigError, parse_address
from csi_driver.dev.layout import DevCeph
from tests.controller.calls import Calls
from tests.driver import DriverProcess

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trace") / "trace.json"


@pytest.fixture(scope="module")
def driver(ceph_dev: DevCeph, trace: Path) -> Iterator[DriverProcess]:
    flags = ("--controller", "--metrics-address", "127.0.0.1:0", "--trace", str(trace))
    with DriverProcess.start(*flags, clusters=ceph_dev.config_json) as driver:
        yield driver


def get(driver: DriverProcess, path: str) -> tuple[int, str]:
    port = re.search(r"event=\"serving metrics\" .*port=(\d+)", driver.log_text())
    assert port
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def lived(driver: DriverProcess, ceph: DevCeph, name: str) -> None:
    calls = Calls(driver.rpc, ceph.secrets("provisioner"))
    calls.delete_until_done(calls.create(name).volume_id)


def test_calls_and_what_they_ask_of_ceph_are_counted(driver: DriverProcess, ceph_dev: DevCeph) -> None:
    lived(driver, ceph_dev, "counted")
    status, text = get(driver, "/metrics")
    assert status == 200
    assert 'rbd_csi_call_seconds_count{code="OK",method="CreateVolume"} 1.0' in text
    assert re.search(r'rbd_csi_ceph_call_seconds_count{operation="images.create",result="ok"} 1.0', text)
    assert 'rbd_csi_cluster_up{cluster="dev"} 1.0' in text
    assert re.search(r"^rbd_csi_locks_held [01]\.0$", text, flags=re.MULTILINE)  # its purge may go on behind the answer


def test_the_room_of_each_pool_is_told(driver: DriverProcess) -> None:
    """Of RBD's pools; asked for in the background."""
    deadline = time.monotonic() + 60
    while 'rbd_csi_pool_free_bytes{cluster="dev",pool="rbd"}' not in (text := get(driver, "/metrics")[1]):
        assert time.monotonic() < deadline, text
        time.sleep(0.2)
    (free,) = re.findall(r'^rbd_csi_pool_free_bytes\{cluster="dev",pool="rbd"\} (\S+)', text, flags=re.MULTILINE)
    assert float(free) > 1 << 30
    assert 'rbd_csi_pool_stored_bytes{cluster="dev",pool="rbd"}' in text


def test_health_and_readiness_are_told_over_http(driver: DriverProcess) -> None:
    assert get(driver, "/healthz") == (200, "ok\n")
    assert get(driver, "/readyz") == (200, "ok\n")
    assert get(driver, "/else")[0] == 404


def test_an_unreachable_cluster_is_not_ready_and_healthy(tmp_path: Path) -> None:
    clusters = tmp_path / "clusters.json"
    clusters.write_text(json.dumps([{"clusterID": "away", "monitors": ["127.0.0.1:1"]}]))
    driver = DriverProcess(
        ("--node-id", "n", "--controller", "--clusters", str(clusters), "--metrics-address", "127.0.0.1:0"), {}
    )
    try:
        with pytest.raises(AssertionError, match="not ready"):
            driver.restart(ready_within_s=4)
        assert get(driver, "/healthz") == (200, "ok\n")
        status, text = get(driver, "/readyz")
        assert status == 503
        assert "away" in text
        assert 'rbd_csi_cluster_up{cluster="away"} 0.0' in get(driver, "/metrics")[1]
    finally:
        driver.remove()


def test_the_trace_holds_each_call_and_its_steps(driver: DriverProcess, ceph_dev: DevCeph, trace: Path) -> None:
    lived(driver, ceph_dev, "traced")
    events = json.loads(trace.read_text().rstrip().rstrip(",") + "]")
    (created,) = [one for one in events if one["name"] == "CreateVolume" and one["args"]["of"] == "traced"]
    assert created["args"]["code"] == "OK"
    steps = [one for one in events if one["cat"] == "step" and one["args"]["call"] == created["args"]["call"]]
    assert {"journal.claim", "images.create", "journal.complete"} <= {one["name"] for one in steps}
    assert all(created["ts"] <= one["ts"] <= created["ts"] + created["dur"] for one in steps)


def test_an_address_that_is_taken_ends_the_start_with_one_line(driver: DriverProcess, ceph_dev: DevCeph) -> None:
    port = re.search(r"event=\"serving metrics\" .*port=(\d+)", driver.log_text())
    assert port
    flags = ("--node-id", "n", "--clusters", str(ceph_dev.config_json), "--metrics-address", f"127.0.0.1:{port[1]}")
    second = DriverProcess(flags, {})
    try:
        with pytest.raises(AssertionError, match="ended with 2"):
            second.restart()
        assert "--metrics-address" in second.log_tail(1)
    finally:
        second.remove()


@pytest.mark.parametrize("text", ["9090", "host:", "host:port", "host:70000", "host:-1"])
def test_another_form_of_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(text)


def test_addresses_are_read() -> None:
    assert parse_address("") is None
    assert parse_address(":9090") == ("0.0.0.0", 9090)
    assert parse_address("[::1]:9090") == ("::1", 9090)


def test_dashboard_and_alerts_use_metrics_that_the_driver_exports(driver: DriverProcess, ceph_dev: DevCeph) -> None:
    lived(driver, ceph_dev, "exported")
    exported = set(re.findall(r"^# TYPE (\S+)", get(driver, "/metrics")[1], flags=re.MULTILINE))
    dashboard = json.loads((DEPLOY / "observability" / "dashboard.json").read_text())
    rules = yaml.safe_load((DEPLOY / "observability" / "alerts.yaml").read_text())
    used = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    assert len(used) > 8
    for expression in used:
        names = set(re.findall(r"\b(?:rbd_csi|process)_\w+", expression))
        assert names, expression
        assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in names} <= exported, expression
