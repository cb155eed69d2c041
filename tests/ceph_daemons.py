"""What an operator does to a development Ceph under a running driver: daemons restarted, the monitor moved, a key changed."""

import json
import os
import select
import signal
from pathlib import Path

from csi_driver.dev import daemons, users
from csi_driver.dev.daemons import MON, Daemon
from csi_driver.dev.files import write_atomically
from csi_driver.dev.layout import DevCeph
from csi_driver.host.commands import run
from csi_driver.journal.layout import makers
from csi_driver.journal.makers import Record
from tests.seam import operators_pool

_ENDS_WITHIN_S = 60
_STARTS_WITHIN_S = 60.0
_OTHER_MON = Daemon("mon", "b")


def restart(ceph: DevCeph, daemon: Daemon) -> None:
    """As after a crash: by SIGKILL, and started again."""
    _kill(ceph, daemon)
    run(daemon.argv(ceph.conf), timeout_s=_STARTS_WITHIN_S)


def change_key(ceph: DevCeph, user: str) -> dict[str, str]:
    """A new key for a user; the secrets with it. The old one is accepted nowhere any more."""
    key = next(one.key for one in users.new_users(0) if one.name == f"client.{user}")
    caps = json.loads(ceph.ceph("auth", "get", f"client.{user}", "--format", "json"))[0]["caps"]
    changed = ceph.directory / "changed.keyring"
    write_atomically(changed, users.keyring([users.User(f"client.{user}", caps, key)]), mode=0o600)
    ceph.ceph("auth", "import", "-i", str(changed))
    changed.unlink()
    return {"userID": user, "userKey": key}


def move_monitor(ceph: DevCeph) -> str:
    """Another monitor takes the place of the first, at other ports; its address as the clusters file has it."""
    new = f"[v2:{ceph.address}:13300,v1:{ceph.address}:16789]"
    monmap, keyring, data = (ceph.directory / name for name in ("moved.monmap", "moved.keyring", "mon.b"))
    ceph.ceph("mon", "getmap", "-o", str(monmap))
    ceph.ceph("auth", "get", "mon.", "-o", str(keyring))
    argv = (*_OTHER_MON.argv(ceph.conf), "--mon-data", str(data))
    run((*argv, "--mkfs", "--monmap", str(monmap), "--keyring", str(keyring)), timeout_s=_STARTS_WITHIN_S)
    run((*argv, "--public-addrv", new), timeout_s=_STARTS_WITHIN_S)
    ceph.ceph("mon", "remove", MON.id)
    _kill(ceph, MON)
    conf = ceph.conf.read_text()
    old = next(line for line in conf.splitlines() if line.startswith("mon host = "))
    write_atomically(ceph.conf, conf.replace(old, f"mon host = {new}"))
    return f"{ceph.address}:13300"


def write_clusters_file(ceph: DevCeph, path: Path, *, monitor: str = "", own: dict[str, str] | None = None) -> None:
    """The cluster's own, with another monitor or other credentials of the driver's own, in place at once."""
    entries = json.loads(ceph.config_json.read_text())
    for entry in entries:
        entry["monitors"] = [monitor] if monitor else entry["monitors"]
        if own and entry["clusterID"] == "dev":
            entry["credentials"] = own
    write_atomically(path, json.dumps(entries))


def maker_addresses(ceph: DevCeph) -> set[str]:
    """Where those are who work in the pool `rbd` now: the connections of its drivers."""
    with operators_pool(ceph) as pool:
        records = pool.objects.read(makers("default")) or {}
    return {one for record in map(Record.parse, records.values()) for one in record.all_of(record.address)}


def _kill(ceph: DevCeph, daemon: Daemon) -> None:
    for one in daemons.running(ceph.conf):
        if one.daemon == daemon:
            pidfd = os.pidfd_open(one.pid)
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            ended, _, _ = select.select([pidfd], [], [], _ENDS_WITHIN_S)
            os.close(pidfd)
            assert ended, f"{daemon.name} runs on after SIGKILL"
