"""Commands that a monitor answers, and what their answers say (Ceph documentation, "Monitor commands").

All of them are allowed to users with the monitor's `profile rbd`.
"""

import errno
import json
from collections.abc import Mapping
from typing import Any, Protocol

from csi_driver.ceph.api import HealthCheck, PoolUsage
from csi_driver.errors import AccessDenied, ClusterTimeout, ClusterUnavailable

_DENIED = frozenset({errno.EACCES, errno.EPERM})


class Connection(Protocol):
    """librados' own."""

    def mon_command(self, cmd: str, inbuf: bytes) -> tuple[int, bytes, str]: ...


def ask(connection: Connection, command: Mapping[str, str]) -> Any:
    """The command's answer, parsed. Raises AccessDenied, ClusterTimeout, ClusterUnavailable."""
    answer = _answer(connection, {**command, "format": "json"})
    # The first document of it: some releases write a second list, of ranges, behind that of the blocklist.
    return json.JSONDecoder().raw_decode(answer.lstrip())[0]


def oldest_client(connection: Connection) -> str:
    """Name of the release from which on clients are let in; this command answers plain text whatever is asked for."""
    return _answer(connection, {"prefix": "osd get-require-min-compat-client"}).strip()


def _answer(connection: Connection, command: Mapping[str, str]) -> str:
    number, answer, said = connection.mon_command(json.dumps(command), b"")
    if number == 0:
        return answer.decode()
    prefix = command["prefix"]
    if -number in _DENIED:
        raise AccessDenied(f"the user may not ask a monitor for {prefix!r}: it needs the capability mon 'profile rbd'")
    if -number == errno.ETIMEDOUT:
        raise ClusterTimeout(f"no monitor answered {prefix!r} in time")
    raise ClusterUnavailable(f"a monitor refused {prefix!r}: {said or errno.errorcode.get(-number, number)}")


def health_checks(answer: Mapping[str, Any]) -> tuple[HealthCheck, ...]:
    """Of `health detail`. Muted checks too: what an operator does not want to hear of is still so."""
    return tuple(
        HealthCheck(code, tuple(detail["message"] for detail in check.get("detail", ())))
        for code, check in answer.get("checks", {}).items()
    )


def blocklisted(answer: object) -> frozenset[str]:
    """Of `osd blocklist ls`, a list of {"addr", "until"}. Ranges of addresses are not among them."""
    entries = answer if isinstance(answer, list) else []
    return frozenset(str(entry["addr"]) for entry in entries)


def rbd_pools(answer: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Of `osd pool application get`: the applications of each pool by name; a pool may have none."""
    return tuple(name for name, applications in answer.items() if "rbd" in applications or not applications)


def usage(answer: Mapping[str, Any]) -> dict[str, PoolUsage]:
    """Of `df detail`, by pool."""
    return {str(one["name"]): _usage(one["stats"]) for one in answer["pools"]}


def _usage(stats: Mapping[str, int]) -> PoolUsage:
    return PoolUsage(
        free_bytes=stats["max_avail"],
        stored_bytes=stats["stored"],
        objects=stats["objects"],
        quota_bytes=stats["quota_bytes"],
        quota_objects=stats["quota_objects"],
    )
