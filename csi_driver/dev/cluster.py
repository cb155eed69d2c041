"""Brings a development cluster up, says how it is, and ends it: the interface of this package."""

import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from csi_driver.dev import address, daemons, directory, files, making, release, users
from csi_driver.dev.daemons import MGR, MON, Daemon, Running
from csi_driver.dev.errors import DevMisuse
from csi_driver.dev.layout import RECORD, DevCeph, DevOptions, Record
from csi_driver.dev.making import Report, Site, untold
from csi_driver.dev.programs import Programs
from csi_driver.host.commands import CommandError, run

MOST_OSDS = 16


@dataclass(frozen=True)
class DaemonState:
    """One daemon that the cluster should have, and its process if it runs."""

    daemon: Daemon
    pid: int | None
    address: str


@dataclass(frozen=True)
class Status:
    """How a cluster is. It runs when every daemon does and the monitor answers."""

    daemons: tuple[DaemonState, ...]
    health: str | None

    @property
    def is_running(self) -> bool:
        return bool(self.daemons) and self.health is not None and all(one.pid for one in self.daemons)


def up(options: DevOptions, report: Report = untold) -> DevCeph:
    """Make the cluster, or start what of it does not run. Nothing happens to one that runs."""
    place = options.directory.resolve()
    _check(options)
    with directory.held(place):
        record = Record.read(place)
        if record is None:
            return _make(place, options, report)
        _check_same(options, record)
        site = Site(place, record, _programs(record, place, report), report)
        if status(place).is_running:
            report(f"it runs: {site.conf}")
        else:
            report(making.start_missing(site))
        return _ceph(place, record)


def status(place: Path) -> Status:
    """How the cluster in this directory is; without one there is nothing that runs."""
    place = place.resolve()
    record = Record.read(place)
    if record is None:
        return Status((), None)
    pids = {one.daemon: one.pid for one in daemons.running(place / "ceph.conf")}
    expected = (MON, MGR, *daemons.osd_daemons(record.osds))
    states = tuple(DaemonState(daemon, pids.get(daemon), record.address) for daemon in expected)
    return Status(states, _health(_ceph(place, record)) if MON in pids else None)


def made(place: Path) -> DevCeph:
    """The cluster of this directory, whoever runs it. Raises DevMisuse when there is none."""
    record = Record.read(place.resolve())
    if record is None:
        raise DevMisuse(f"there is no cluster in {place}")
    return _ceph(place.resolve(), record)


def down(place: Path, *, purge: bool = False) -> list[Running]:
    """End the cluster's daemons, the monitor last; `purge` removes the directory. The daemons that ran."""
    place = place.resolve()
    if not place.exists():
        return []
    directory.refuse_foreign(place)
    with directory.held(place):
        ended = _stop(place)
        if purge:
            shutil.rmtree(place)
    return ended


def _make(place: Path, options: DevOptions, report: Report) -> DevCeph:
    if _stop(place) or any(entry.name == "ceph.conf" for entry in place.iterdir()):
        report("a half-made cluster is made anew")
    directory.clear(place)
    defaults = Record("", "")
    record = Record(
        fsid=str(uuid.uuid4()),
        address=options.address or address.choose(place),
        osds=options.osds or defaults.osds,
        osd_size_bytes=options.osd_size_bytes or defaults.osd_size_bytes,
        release=options.release,
        clone_format_1=options.clone_format_1,
    )
    site = Site(place, record, _programs(record, place, report), report)
    try:
        health = making.make(site)
    except BaseException:
        _stop(place)  # the logs stay; the next `up` makes it anew
        raise
    ceph = _ceph(place, record)
    files.write_all(ceph)
    files.write_atomically(place / RECORD, record.text())
    report(health)
    return ceph


def _stop(place: Path) -> list[Running]:
    """OSDs say goodbye to the monitor, so it goes last."""
    conf = place / "ceph.conf"
    return [*daemons.stop(conf, ("osd", "mgr")), *daemons.stop(conf, ("mon",))]


def _programs(record: Record, place: Path, report: Report) -> Programs:
    return release.programs(record.release, place, report) if record.release else Programs()


def _ceph(place: Path, record: Record) -> DevCeph:
    keys = users.client_keys((place / "keyring").read_text())
    return DevCeph(place, record.address, record.fsid, record.osds, record.release, keys)


def _health(ceph: DevCeph) -> str | None:
    argv = ("ceph", "-c", str(ceph.conf), "--connect-timeout", "5", "health", "--format", "json")
    try:
        return str(json.loads(run(argv, timeout_s=15).stdout)["status"])
    except (CommandError, ValueError):
        return None


def _check(options: DevOptions) -> None:
    if options.osds is not None and not 1 <= options.osds <= MOST_OSDS:
        raise DevMisuse(f"{options.osds} OSDs: from 1 to {MOST_OSDS} are possible")
    if options.release is not None and options.release not in release.SUITES:
        raise DevMisuse(f"release {options.release!r} is not one of {', '.join(release.SUITES)}")


def _check_same(options: DevOptions, record: Record) -> None:
    """A cluster is never made into another one: that would lose what is in it."""
    wanted = {
        "osds": options.osds,
        "osd_size_bytes": options.osd_size_bytes,
        "release": options.release,
        "clone_format_1": options.clone_format_1 or None,
    }
    for name, value in wanted.items():
        if value is not None and value != getattr(record, name):
            raise DevMisuse(
                f"the cluster in {options.directory} has {name} = {getattr(record, name)}, not {value}; "
                "end it with `dev down --purge` first, or take another --dir"
            )
