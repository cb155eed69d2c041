"""What is looked at before librados is: the form of a key, and whether a monitor's port answers."""

import base64
import binascii
import re
import socket
import struct

from csi_driver.addresses import ClusterEntry, Credentials
from csi_driver.errors import ClusterUnavailable, Unauthenticated

_ADDRESS = re.compile(r"(?:v[12]:)?(\[[0-9a-fA-F:]+\]|[^:\[\],/]+)(?::(\d+))?(?:/\d+)?")
_MONITOR_PORTS = (3300, 6789)
"""Of the protocols v2 and v1, where an address names none."""


def try_ports(entry: ClusterEntry, timeout_s: float) -> None:
    """Raises ClusterUnavailable when no monitor's port answers."""
    for place in (place for monitor in entry.monitors for place in monitor_ports(monitor)):
        try:
            socket.create_connection(place, timeout=timeout_s).close()
        except (OSError, ValueError, OverflowError):  # the last two: a name or port that no address can have
            continue
        return
    raise ClusterUnavailable(f"cluster {entry.cluster_id!r}: no monitor answers at {', '.join(entry.monitors)}")


def monitor_ports(monitor: str) -> list[tuple[str, int]]:
    """Host and port of each address in HOST, HOST:PORT, v2:HOST:PORT/0 or [v2:HOST:PORT/0,v1:HOST:PORT/0]."""
    listed = monitor[1:-1] if monitor.startswith(("[v1:", "[v2:")) and monitor.endswith("]") else monitor
    found = [match for part in listed.split(",") if (match := _ADDRESS.fullmatch(part.strip()))]
    return [
        (match[1].strip("[]"), port) for match in found for port in ([int(match[2])] if match[2] else _MONITOR_PORTS)
    ]


def check_key_form(credentials: Credentials) -> None:
    """librados prints a key that it cannot parse to stderr, so that it never sees one.

    A cephx key is base64 of type (u16), creation time (u32, u32), length (u16) and the secret
    (Ceph: src/auth/Crypto.cc, CryptoKey::decode). Raises Unauthenticated.
    """
    try:
        raw = base64.b64decode(credentials.key, validate=True)
        (length,) = struct.unpack_from("<10xH", raw)
        is_key = 0 < length == len(raw) - 12
    except (binascii.Error, ValueError, struct.error):
        is_key = False
    if not is_key:
        raise Unauthenticated("secret userKey is not a cephx key (`ceph auth get-key client.NAME` prints one)")
