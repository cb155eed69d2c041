"""Makes a new cluster, and starts the daemons of one that is there.

In order: configuration and keys; the monitor's store and, beside it, the OSDs'; the monitor; one batch of commands and,
beside it, the mgr; the OSDs; what rbd itself puts into the pools. cluster.py holds the directory meanwhile.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from csi_driver.dev import pools, users
from csi_driver.dev.address import monitors
from csi_driver.dev.conf import conf as conf_text
from csi_driver.dev.daemons import MGR, MON, Daemon, osd_daemons, running
from csi_driver.dev.errors import DevError
from csi_driver.dev.files import write_atomically
from csi_driver.dev.layout import Record
from csi_driver.dev.programs import Programs
from csi_driver.host.commands import CommandError

Report = Callable[[str], None]
_READY_S = 60.0
_OLD_KEYS_ARE_MEANT = (
    "AUTH_INSECURE_CLIENT_KEY_TYPE",
    "AUTH_INSECURE_SERVICE_KEY_TYPE",
    "AUTH_INSECURE_KEYS_ALLOWED",
    "AUTH_INSECURE_KEYS_CREATABLE",
)


def untold(_line: str) -> None:
    """The report of a caller who wants none."""


@dataclass(frozen=True)
class Site:
    """Where a cluster is made: its directory, what was decided, the programs that make it, and who is told."""

    directory: Path
    record: Record
    programs: Programs
    report: Report

    @property
    def conf(self) -> Path:
        return self.directory / "ceph.conf"


def make(site: Site) -> str:
    """A new cluster in an empty directory, ready. Its health."""
    osd_uuids = [str(uuid.uuid4()) for _ in range(site.record.osds)]
    commands = pools.commands(osd_uuids, clone_format_1=site.record.clone_format_1)
    with _pointing_to_logs(site):
        _write_configuration(site)
        if ciphers := _old_cipher_too(site.programs):
            commands += [f"health mute {code} --sticky" for code in _OLD_KEYS_ARE_MEANT]
        with ThreadPoolExecutor() as pool:
            # an OSD's store asks the monitor nothing
            stores = [pool.submit(_make_osd_store, site, i, osd_uuid) for i, osd_uuid in enumerate(osd_uuids)]
            _make_monitor_store(site, ciphers)
            start(site, [MON])
            mgr = pool.submit(start, site, [MGR])
            site.programs.ceph(str(site.conf), commands)
            for step in (*stores, mgr):
                step.result()
        start(site, osd_daemons(site.record.osds))
        for command in pools.rbd_commands():
            site.programs.run("rbd", "-c", str(site.conf), *command, timeout_s=_READY_S)
        site.report(f"pools: {', '.join((*users.POOLS, users.DATA_POOL))}")
        return _wait_until_ready(site)


def start_missing(site: Site) -> str:
    """Start those daemons that do not run, the monitor first, and wait until the cluster is ready. Its health."""
    there = {one.daemon for one in running(site.conf)}
    with _pointing_to_logs(site):
        for some in ([MON], [MGR, *osd_daemons(site.record.osds)]):
            start(site, [daemon for daemon in some if daemon not in there])
        return _wait_until_ready(site)


def start(site: Site, some: Sequence[Daemon]) -> None:
    """Start daemons at once; each has gone to the background when this returns."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda daemon: _start_one(site, daemon), some))


def what_lacks(status: dict[str, dict[str, object]], osds: int) -> str:
    """What keeps the cluster from being ready, by the answer of `ceph status`; empty when nothing does."""
    if not status["mgrmap"].get("available"):
        return "no mgr is active"
    if status["osdmap"].get("num_up_osds") != osds:
        return f"{status['osdmap'].get('num_up_osds')} of {osds} OSDs are up"
    states = status["pgmap"].get("pgs_by_state")
    names = [str(state["state_name"]) for state in states] if isinstance(states, list) else []
    unclean = [name for name in names if name != "active+clean"]
    if unclean or not names:
        return f"placement groups are {', '.join(unclean) or 'not known yet'}"
    return ""


def _wait_until_ready(site: Site) -> str:
    """Wait for the mgr, every OSD and clean placement groups. The health then, such as HEALTH_OK."""
    deadline = time.monotonic() + _READY_S
    while True:
        said = site.programs.run("ceph", "-c", str(site.conf), "status", "--format", "json").stdout
        status = json.loads(said)
        lacking = what_lacks(status, site.record.osds)
        if not lacking:
            return str(status["health"]["status"])
        if time.monotonic() > deadline:
            raise DevError(f"not ready after {_READY_S:g} s: {lacking}")


def _write_configuration(site: Site) -> None:
    for name in ("mon", "mgr", "run", "log", *(f"osd.{i}" for i in range(site.record.osds))):
        (site.directory / name).mkdir()
    everyone = users.new_users(site.record.osds)
    clients = [user for user in everyone if user.is_client]
    write_atomically(site.directory / "keyring", users.keyring(clients), mode=0o600)
    others = [user for user in everyone if not user.is_client]
    write_atomically(site.directory / "daemons.keyring", users.keyring(others), mode=0o600)
    write_atomically(site.conf, conf_text(site.directory, site.record))


def _make_monitor_store(site: Site, ciphers: Sequence[str]) -> None:
    """The first map, and a store that knows every user from the start."""
    directory, record, run = site.directory, site.record, site.programs.run
    monmap, everyone = directory / "monmap", directory / "everyone.keyring"
    addresses = monitors(record.address)
    first_map = ("--create", "--clobber", *ciphers, "--addv", MON.id, addresses, "--fsid", record.fsid)
    run("monmaptool", *first_map, str(monmap))
    keys = "".join((directory / name).read_text() for name in ("daemons.keyring", "keyring"))
    write_atomically(everyone, keys, mode=0o600)
    run(*MON.argv(site.conf), "--mkfs", "--monmap", str(monmap), "--keyring", str(everyone))
    everyone.unlink()


def _old_cipher_too(programs: Programs) -> tuple[str, ...]:
    """From 20.2 on a new monitor takes keys of a kind that older clients do not know, unless its map says otherwise."""
    option = "--auth-allowed-ciphers"
    known = programs.run("monmaptool", "--help", ok=None)
    return (option, "aes,aes256k") if option in known.stdout + known.stderr else ()


def _make_osd_store(site: Site, index: int, osd_uuid: str) -> None:
    osd = Daemon("osd", str(index))
    site.programs.run(*osd.argv(site.conf), "--mkfs", "--osd-uuid", osd_uuid, "--no-mon-config")


def _start_one(site: Site, daemon: Daemon) -> None:
    site.programs.run(*daemon.argv(site.conf))
    site.report(f"{daemon.name}: started")


@contextmanager
def _pointing_to_logs(site: Site) -> Iterator[None]:
    try:
        yield
    except (CommandError, DevError) as failed:
        raise DevError(f"{failed}; the logs are in {site.directory / 'log'}") from failed
