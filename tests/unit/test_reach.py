"""What is looked at before librados is: monitors' ports, and the form of a key."""

import base64
import socket
import struct

import pytest

from csi_driver.addresses import ClusterEntry, Credentials
from csi_driver.ceph.cluster.reach import check_key_form, monitor_ports, try_ports
from csi_driver.errors import ClusterUnavailable, Unauthenticated


@pytest.mark.parametrize(
    ("monitor", "places"),
    [
        ("10.0.0.1", [("10.0.0.1", 3300), ("10.0.0.1", 6789)]),
        ("10.0.0.1:6789", [("10.0.0.1", 6789)]),
        ("mon.a.example:3300", [("mon.a.example", 3300)]),
        ("v2:10.0.0.1:3300/0", [("10.0.0.1", 3300)]),
        ("v1:10.0.0.1:6789/0", [("10.0.0.1", 6789)]),
        ("[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]", [("10.0.0.1", 3300), ("10.0.0.1", 6789)]),
        ("[v2:[fd00::1]:3300/0,v1:[fd00::1]:6789/0]", [("fd00::1", 3300), ("fd00::1", 6789)]),
        ("[fd00::1]", [("fd00::1", 3300), ("fd00::1", 6789)]),
        ("[fd00::1]:6789", [("fd00::1", 6789)]),
        ("10.0.0.1:3300,10.0.0.2:3300", [("10.0.0.1", 3300), ("10.0.0.2", 3300)]),
        ("", []),
        ("a:b:c", []),
    ],
)
def test_an_address_of_a_monitor_is_read_as_librados_reads_it(monitor: str, places: list[tuple[str, int]]) -> None:
    assert monitor_ports(monitor) == places


def entry(*monitors: str) -> ClusterEntry:
    return ClusterEntry("c", monitors)


def test_one_port_that_answers_is_enough() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        try_ports(entry("127.0.0.1:1", "a..b", "127.0.0.1:99999", address), timeout_s=5)


@pytest.mark.parametrize("monitor", ["127.0.0.1:1", "127.0.0.1:99999", f"127.0.0.1:{1 << 70}", "a..b", "x" * 70, "::"])
def test_an_address_at_which_nobody_can_answer_is_a_cluster_that_cannot_be_reached(monitor: str) -> None:
    with pytest.raises(ClusterUnavailable, match="'c'") as raised:
        try_ports(entry(monitor), timeout_s=5)
    assert monitor in str(raised.value)


def key(secret: bytes, *, said: int | None = None) -> str:
    length = len(secret) if said is None else said
    return base64.b64encode(struct.pack("<HIIH", 1, 1_700_000_000, 0, length) + secret).decode()


def test_a_key_of_ceph_has_the_right_form() -> None:
    check_key_form(Credentials("u", key(b"0123456789abcdef")))
    check_key_form(Credentials("u", "AQBfJAFrAAAAABAA+pU5pUf/WUWiLjE1Tz+GSg=="))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hunter2",
        "AQ==",
        "c2VjcmV0",
        "größe",
        key(b""),
        key(b"0123456789abcdef", said=15),
        key(b"0123456789abcdef", said=17),
        key(b"0123456789abcdef") + "\n",
        key(b"0123456789abcdef")[:-1],
        "*" + key(b"0123456789abcdef"),
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(Unauthenticated, match="userKey is not a cephx key") as raised:
        check_key_form(Credentials("u", text))
    assert not text or text not in str(raised.value)
