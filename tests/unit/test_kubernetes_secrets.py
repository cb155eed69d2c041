"""One named Secret, asked for through the real client of a server with canned objects."""

import base64
from collections.abc import Callable, Iterator, Mapping

import pytest
from kubernetes import client

from csi_driver.errors import AccessDenied, ClusterUnavailable, InvalidRequest
from csi_driver.orchestrator.kubernetes_secrets import read_secret
from tests.kubernetes_api import ApiServer

PATH = "/api/v1/namespaces/shop/secrets/phrases"


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def read(api: ApiServer) -> Iterator[Callable[[], Mapping[str, str]]]:
    configuration = client.Configuration(host=f"http://127.0.0.1:{api.port}")
    configuration.retries = 0
    with client.ApiClient(configuration) as opened:
        yield lambda: read_secret("shop", "phrases", lambda: opened)


def test_a_secret_is_read_as_text(api: ApiServer, read: Callable[[], Mapping[str, str]]) -> None:
    data = {"encryptionPassphrase": base64.b64encode("größe".encode()).decode()}
    api.put(PATH, {"kind": "Secret", "metadata": {"name": "phrases", "namespace": "shop"}, "data": data})
    assert read() == {"encryptionPassphrase": "größe"}
    api.put(PATH, {"kind": "Secret", "metadata": {"name": "phrases", "namespace": "shop"}})
    assert read() == {}


def test_why_a_secret_cannot_be_read_is_told_apart(api: ApiServer, read: Callable[[], Mapping[str, str]]) -> None:
    with pytest.raises(InvalidRequest, match="there is no Secret shop/phrases"):
        read()
    for status, expected in ((403, AccessDenied), (401, AccessDenied), (500, ClusterUnavailable)):
        api.status = status
        with pytest.raises(expected, match="Secret shop/phrases"):
            read()


def test_outside_of_a_cluster_nobody_tells_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterUnavailable, match="Secret shop/phrases"):
        read_secret("shop", "phrases")
