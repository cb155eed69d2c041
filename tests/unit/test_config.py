"""The clusters file and the flags: what is refused, in which words, and when a change takes effect."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from csi_driver.addresses import ClusterEntry, Credentials, ReadAffinity
from csi_driver.config import ClustersFile, ConfigError, ServeConfig, read_clusters

ONE: dict[str, Any] = {"clusterID": "one", "monitors": ["10.0.0.1:3300"]}

Write = Callable[[Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the file anew, as an editor or a ConfigMap does: another file takes the name."""
    path = tmp_path / "config.json"

    def write(content: Any) -> Path:
        new = tmp_path / "new"
        new.write_text(content if isinstance(content, str) else json.dumps(content))
        os.replace(new, path)  # noqa: PTH105 - by name what is meant
        return path

    return write


def test_the_layout_of_existing_deployments_is_read(write: Write) -> None:
    """With what they have beside it, which is none of this driver's business."""
    content = [
        {**ONE, "cephFS": {"subvolumeGroup": "csi"}, "rbd": {"netNamespaceFilePath": "", "mirrorDaemonCount": 1}},
        {"clusterID": "two", "monitors": ["mon.a", "mon.b"], "rbd": {"radosNamespace": "ns"}, "readAffinity": None},
        {**ONE, "clusterID": "x" * 64, "rbd": None, "credentials": None},
    ]
    assert read_clusters(write(content)) == {
        "one": ClusterEntry("one", ("10.0.0.1:3300",)),
        "two": ClusterEntry("two", ("mon.a", "mon.b"), "ns"),
        "x" * 64: ClusterEntry("x" * 64, ("10.0.0.1:3300",)),
    }


@pytest.mark.parametrize("how", ["userKey", "userKeyFile"])
def test_own_credentials_come_from_the_file_or_from_a_file_of_their_own(how: str, write: Write, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("c2VjcmV0\n")
    value = "c2VjcmV0" if how == "userKey" else str(tmp_path / "key")
    entries = read_clusters(write([{**ONE, "credentials": {"userID": "client.csi", how: value}}]))
    assert entries["one"].credentials == Credentials("csi", "c2VjcmV0")
    assert "c2VjcmV0" not in repr(entries)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not JSON"),
        ("[{}", "not JSON"),
        ({}, "list"),
        ([], "list"),
        ("null", "list"),
        (["one"], "entry 0.*'one'"),
        ([ONE, {**ONE, "clusterID": ""}], "entry 1.*clusterID"),
        ([{"monitors": ["a"]}], "entry 0.*clusterID"),
        ([{**ONE, "clusterID": 5}], "entry 0.*clusterID.*5"),
        ([{**ONE, "clusterID": "a\nb"}], "entry 0.*clusterID"),
        ('[{"clusterID": "\\ud800", "monitors": ["a"]}]', "entry 0.*clusterID"),
        ([{**ONE, "clusterID": "é" * 33}], "entry 0.*clusterID.*64"),
        ([ONE, {**ONE, "clusterID": "two"}, ONE], "entry 2.*'one'.*twice"),
        ([{"clusterID": "one"}], "entry 0.*monitors.*'one'"),
        ([{**ONE, "monitors": []}], "entry 0.*monitors"),
        ([{**ONE, "monitors": "a:1"}], "entry 0.*monitors"),
        ([{**ONE, "monitors": ["a", ""]}], "entry 0.*monitors"),
        ([{**ONE, "monitors": [{"host": "a"}]}], "entry 0.*monitors"),
        ([{**ONE, "rbd": "ns"}], "entry 0.*rbd"),
        ([{**ONE, "rbd": {"radosNamespace": ["ns"]}}], "entry 0.*radosNamespace"),
        ([{**ONE, "readAffinity": "zone"}], "entry 0.*readAffinity"),
        ([{**ONE, "readAffinity": {"enabled": "true"}}], "entry 0.*readAffinity.enabled.*'true'"),
        ([{**ONE, "readAffinity": {"crushLocationLabels": "zone"}}], "entry 0.*crushLocationLabels.*'zone'"),
        ([{**ONE, "readAffinity": {"crushLocationLabels": ["a b"]}}], "entry 0.*crushLocationLabels.*'a b'"),
        ([{**ONE, "credentials": "admin"}], "entry 0.*credentials"),
        ([{**ONE, "credentials": {}}], "entry 0.*credentials.*userID"),
        ([{**ONE, "credentials": {"userID": "csi"}}], "entry 0.*credentials.*userKey"),
        ([{**ONE, "credentials": {"userKey": "c2VjcmV0"}}], "entry 0.*credentials.*userID"),
        ([{**ONE, "credentials": {"userID": 1, "userKey": "c2VjcmV0"}}], "entry 0.*userID"),
        ([{**ONE, "credentials": {"userID": "csi", "userKeyFile": "/no/such"}}], "entry 0.*userKeyFile /no/such"),
    ],
    ids=str,
)
def test_a_bad_file_is_refused_by_file_entry_and_field(content: Any, said: str, write: Write) -> None:
    path = write(content)
    with pytest.raises(ConfigError, match=said) as refused:
        read_clusters(path)
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message
    assert "c2VjcmV0" not in message, "a key is never shown"


@pytest.mark.parametrize(
    ("given", "affinity"),
    [
        ({}, None),
        ({"enabled": False, "crushLocationLabels": ["rack"]}, None),
        ({"enabled": True}, ReadAffinity()),
        ({"enabled": True, "crushLocationLabels": ["a.b/zone", "rack"]}, ReadAffinity(("a.b/zone", "rack"))),
    ],
    ids=str,
)
def test_read_affinity_is_told_of_a_cluster(given: Any, affinity: ReadAffinity | None, write: Write) -> None:
    assert read_clusters(write([{**ONE, "readAffinity": given}]))["one"].read_affinity == affinity


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / 'none'}: No such file")):
        read_clusters(tmp_path / "none")


@pytest.mark.parametrize("where", ["file", "key"])
def test_bytes_that_are_no_text_are_refused(where: str, write: Write, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe\x00")
    path = write([{**ONE, "credentials": {"userID": "csi", "userKeyFile": str(tmp_path / "key")}}])
    if where == "file":
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=str(path)):
        read_clusters(path)


def test_a_change_takes_effect_with_the_next_look(write: Write) -> None:
    file = ClustersFile(write([ONE]))
    assert set(file.entries()) == {"one"}
    write([ONE, {**ONE, "clusterID": "two"}])
    assert set(file.entries()) == {"one", "two"}
    write([{**ONE, "monitors": ["10.0.0.2"]}])
    assert file.entries() == {"one": ClusterEntry("one", ("10.0.0.2",))}


def test_a_file_that_did_not_change_is_not_read_anew(write: Write) -> None:
    file = ClustersFile(write([ONE]))
    assert file.entries() is file.entries()


@pytest.mark.parametrize("bad", ["", "[", "[]", '[{"clusterID": "one"}]', None], ids=str)
def test_after_a_bad_change_the_last_good_file_holds_until_the_next_good_one(bad: str | None, write: Write) -> None:
    path = write([ONE])
    file = ClustersFile(path)
    before = file.entries()
    if bad is None:
        path.unlink()
    else:
        write(bad)
    assert file.entries() == before
    assert file.entries() == before
    write([{**ONE, "clusterID": "two"}])
    assert set(file.entries()) == {"two"}


def test_a_bad_file_at_the_start_is_refused(write: Write) -> None:
    with pytest.raises(ConfigError):
        ClustersFile(write("["))


# ── flags ──


GOOD = ServeConfig(
    socket_path=Path("/run/csi.sock"),
    node_id="node-1",
    controller=True,
    node=True,
    driver_name="rbd.csi.internal",
    clusters_file=Path("/etc/config.json"),
    instance="default",
    timeout_s=60,
    max_volumes_per_node=0,
    has_topology=False,
)


@pytest.mark.parametrize(
    "change",
    [
        {"node_id": "x" * 256},
        {"node_id": "knoten-größe"},
        {"driver_name": "rbd.csi.ceph.com"},
        {"driver_name": "rbd2"},
        {"driver_name": "9.rbd"},
        {"driver_name": "x" * 63},
        {"driver_name": "x"},
        {"instance": "x" * 63},
        {"instance": "9_a.b-c"},
        {"timeout_s": 1},
        {"timeout_s": 3600},
        {"max_volumes_per_node": 1000},
    ],
    ids=str,
)
def test_a_good_flag_is_taken(change: dict[str, Any]) -> None:
    replace(GOOD, **change)


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"node_id": ""}, "--node-id"),
        ({"node_id": "x" * 257}, "--node-id"),
        ({"node_id": "é" * 129}, "--node-id"),
        ({"node_id": "a\nb"}, "--node-id"),
        ({"node_id": "a\x00b"}, "--node-id"),
        ({"driver_name": ""}, "--driver-name"),
        ({"driver_name": "x" * 64}, "--driver-name"),
        ({"driver_name": "-rbd"}, "--driver-name"),
        ({"driver_name": "rbd."}, "--driver-name"),
        ({"driver_name": "rbd_csi"}, "--driver-name"),
        ({"driver_name": "rbd/csi"}, "--driver-name"),
        ({"driver_name": "rbd\n"}, "--driver-name"),
        ({"driver_name": "größe"}, "--driver-name"),
        ({"instance": ""}, "--instance"),
        ({"instance": "a/b"}, "--instance"),
        ({"instance": "-a"}, "--instance"),
        ({"instance": "x" * 64}, "--instance"),
        ({"timeout_s": 0.9}, "--timeout"),
        ({"timeout_s": 3601}, "--timeout"),
        ({"timeout_s": float("nan")}, "--timeout"),
        ({"timeout_s": float("inf")}, "--timeout"),
        ({"max_volumes_per_node": -1}, "--max-volumes-per-node"),
    ],
    ids=str,
)
def test_a_bad_flag_is_refused_by_name(change: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigError, match=f"^{flag} "):
        replace(GOOD, **change)
