"""A loopback address for each cluster, so that every one has Ceph's usual ports to itself.

It follows from the directory's name, so that a cluster made anew gets the same one where nobody took it meanwhile.
"""

import hashlib
import socket
from pathlib import Path

from csi_driver.dev.errors import DevError

MON_V2, MON_V1 = 3300, 6789
_TRIES = 64


def choose(directory: Path) -> str:
    """The first address derived from the directory's name whose monitor ports are free."""
    for attempt in range(_TRIES):
        digest = hashlib.sha256(f"{directory}#{attempt}".encode()).digest()
        address = f"127.{1 + digest[0] % 254}.{digest[1]}.{1 + digest[2] % 254}"
        if all(_is_free(address, port) for port in (MON_V2, MON_V1)):
            return address
    raise DevError(f"none of {_TRIES} loopback addresses has the ports {MON_V2} and {MON_V1} free")


def monitors(address: str) -> str:
    """The monitor's two addresses in the form that mon_host and monmaptool take."""
    return f"[v2:{address}:{MON_V2},v1:{address}:{MON_V1}]"


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True
