"""`--otlp-endpoint`: what a collector gets of a driver."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from csi_driver.config import ConfigError, parse_url
from csi_driver.dev.layout import DevCeph
from tests.controller.calls import Calls
from tests.driver import DriverProcess


class Collector:
    """Keeps the spans that are sent to it."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.resources: list[dict[str, Any]] = []
        self.arrived = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with collector.arrived:
                    for group in body["resourceSpans"]:
                        collector.resources.append(group["resource"])
                        collector.spans += [span for scope in group["scopeSpans"] for span in scope["spans"]]
                    collector.arrived.notify_all()
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def has(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if span["name"] == name]


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.server.shutdown()
    one.server.server_close()


def told(one: dict[str, Any]) -> dict[str, str]:
    return {entry["key"]: entry["value"]["stringValue"] for entry in one["attributes"]}


def test_a_collector_gets_each_call_with_its_steps(ceph_dev: DevCeph, collector: Collector) -> None:
    endpoint = f"http://127.0.0.1:{collector.server.server_port}"
    with DriverProcess.start("--controller", "--otlp-endpoint", endpoint, clusters=ceph_dev.config_json) as driver:
        calls = Calls(driver.rpc, ceph_dev.secrets("provisioner"))
        calls.delete_until_done(calls.create("spanned").volume_id)
        with collector.arrived:
            assert collector.arrived.wait_for(lambda: collector.has("DeleteVolume"), timeout=60)
    (created,) = collector.has("CreateVolume")
    assert told(created)["rpc.response.status_code"] == "OK"
    assert told(created)["csi.object"] == "spanned"
    children = {span["name"] for span in collector.spans if span.get("parentSpanId") == created["spanId"]}
    assert {"journal.claim", "images.create", "journal.complete"} <= children
    assert all(int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) for span in collector.spans)
    assert told(collector.resources[0])["service.name"] == "rbd.csi.internal"


def test_a_collector_that_is_away_holds_up_nothing(ceph_dev: DevCeph) -> None:
    flags = ("--controller", "--otlp-endpoint", "http://127.0.0.1:1")
    with DriverProcess.start(*flags, clusters=ceph_dev.config_json) as driver:
        calls = Calls(driver.rpc, ceph_dev.secrets("provisioner"))
        calls.delete_until_done(calls.create("unspanned").volume_id)


@pytest.mark.parametrize("text", ["collector:4318", "ftp://collector", "http://"])
def test_another_form_of_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--otlp-endpoint"):
        parse_url(text)
