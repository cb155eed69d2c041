"""Two drivers serve 32 clients on two clusters, of which one is in trouble again and again: the other hardly feels it.

A minute, or TWO_CLUSTERS_S seconds: half an hour in `make soak`. It is run by its name alone, beside no other test. Times are
printed; that no answer comes later than its time, that nothing leaks, and that memory and threads stay, is asserted.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from csi_driver.dev import cluster
from csi_driver.dev.inventory import Place, contents, leftovers
from csi_driver.dev.layout import DevCeph, DevOptions
from tests import ceph_daemons, kills
from tests.crowd import Client, Tally
from tests.driver import DriverProcess
from tests.osd import stopped_osd

SECONDS = float(os.environ.get("TWO_CLUSTERS_S", "60"))
CLIENTS = 32
TIMEOUT_S = 10.0
_LATE_BY_S = 20.0
"""What an answer may come late by where the machine does much else; a hang is one that never comes."""
_CALM_S, _OSD_STOPPED_S, _AFTERWARDS_S = 5.0, 8.0, 3.0
_KEYS_CHANGE_EVERY = 5
_MOST_SLOWED = 2.0
"""The calls to a cluster, by what happens to the other: twice as long as in calm, when all are as busy as can be."""
_MORE_MIB, _MORE_THREADS = 128, 128
_WARM_S = 300.0
"""After which connections have been replaced often enough, and the memory of names is full."""
_GROWN = {"mib": 1.05, "threads": 1.5}
"""The most that they grow by from the first to the second half of what comes then, by their medians: a connection more has
thirty threads.
"""


class Troubled:
    """The two clusters behind one clusters file, the drivers on them, and what is done to the second cluster and driver."""

    def __init__(self, steady: DevCeph, shaky: DevCeph, directory: Path) -> None:
        self.steady, self.shaky = steady, shaky
        self.clusters_file = directory / "config.json"
        self._secrets = {"steady": steady.secrets("provisioner"), "shaky": shaky.secrets("provisioner")}
        self._write_clusters_file()
        self.drivers: tuple[DriverProcess, ...] = ()

    def secrets(self, cluster_id: str) -> dict[str, str]:
        return self._secrets[cluster_id]

    @contextmanager
    def served(self) -> Iterator[None]:
        with ExitStack() as stack:
            flags = ("--controller", "--timeout", str(TIMEOUT_S))
            self.drivers = tuple(
                stack.enter_context(DriverProcess.start(*flags, clusters=self.clusters_file, node_id=node))
                for node in ("node-1", "node-2")
            )
            yield

    def stop_osd(self) -> None:
        with stopped_osd(self.shaky):
            time.sleep(_OSD_STOPPED_S)

    def blocklist(self) -> None:
        for address in ceph_daemons.maker_addresses(self.shaky):
            self.shaky.ceph("osd", "blocklist", "add", address)

    def change_key(self) -> None:
        self._secrets["shaky"] = ceph_daemons.change_key(self.shaky, "provisioner")
        self._write_clusters_file()

    def kill_driver(self) -> None:
        self.drivers[1].kill()
        self.drivers[1].restart(ready_within_s=kills.ENDS_WITHIN_S)

    def audit(self) -> list[object]:
        scope = ("--clusters", str(self.clusters_file), "--pool", "rbd", "--settle", "1", "--format", "json")
        command = [sys.executable, "-m", "csi_driver", "audit", *scope]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode in (0, 1), ended.stderr
        found: list[object] = json.loads(ended.stdout)
        return found

    def tell_logs(self) -> None:
        for driver in self.drivers:
            print(driver.log_tail(1000))  # noqa: T201

    def _write_clusters_file(self) -> None:
        entries = []
        for name, ceph in (("steady", self.steady), ("shaky", self.shaky)):
            monitors = json.loads(ceph.config_json.read_text())[0]["monitors"]
            entries.append({"clusterID": name, "monitors": monitors, "credentials": self._secrets[name]})
        other = self.clusters_file.with_suffix(".new")
        other.write_text(json.dumps(entries))
        other.replace(self.clusters_file)


@pytest.fixture
def troubled(ceph_dev: DevCeph, tmp_path: Path) -> Iterator[Troubled]:
    directory = tmp_path / "shaky"
    try:
        both = Troubled(ceph_dev, cluster.up(DevOptions(directory)), tmp_path)
        with both.served():
            yield both
    finally:
        cluster.down(directory, purge=True)


@pytest.mark.timeout(2 * SECONDS + 2 * kills.ENDS_WITHIN_S)
def test_trouble_of_one_cluster_hangs_nothing_and_leaks_nothing(troubled: Troubled) -> None:
    tally, began = Tally(), time.monotonic()
    with crowd(troubled, tally):
        sizes = list(make_trouble(troubled, tally))
        ended = time.monotonic()
    print(f"{ended - began:.0f} s of trouble, {time.monotonic() - ended:.0f} s to the last answer")  # noqa: T201 - the report
    for cluster_id in ("steady", "shaky"):
        calm = tally.median_s(cluster_id, "calm")
        stopped = tally.median_s(cluster_id, "OSD stopped")
        print(f"{cluster_id}: calm {calm:.2f} s, OSD stopped {stopped:.2f} s")  # noqa: T201
    print(tally.table())  # noqa: T201
    print("MiB, threads:", *(f"({one.mib}, {one.threads})" for one in sizes))  # noqa: T201
    assert tally.slowest_s() < TIMEOUT_S + _LATE_BY_S
    assert tally.median_s("steady", "OSD stopped") <= _MOST_SLOWED * tally.median_s("steady", "calm")
    assert_left_nothing(troubled, troubled.steady)
    assert_left_nothing(troubled, troubled.shaky)
    assert troubled.audit() == []
    assert_steady(sizes)


def assert_left_nothing(troubled: Troubled, ceph: DevCeph) -> None:
    found = leftovers(ceph, Place("rbd"), wait_s=kills.ENDS_WITHIN_S)
    if found:
        for line in sorted(found):
            print(contents(ceph, Place("rbd"), line))  # noqa: T201 - what it is, and what the drivers said
        troubled.tell_logs()
    assert found == frozenset()


@contextmanager
def crowd(troubled: Troubled, tally: Tally) -> Iterator[None]:
    """Half of the clients on each cluster, while the block runs."""

    def go_on(number: int, ended: threading.Event) -> None:
        cluster_id = ("steady", "shaky")[number % 2]
        drivers = [driver.rpc for driver in troubled.drivers]
        Client(str(number), cluster_id, drivers, lambda: troubled.secrets(cluster_id), tally).run(ended)

    try:
        with kills.callers(CLIENTS, go_on):
            yield
    except AssertionError:
        for client, wants in sorted(tally.waiting.items()):
            print(f"client {client} waits for {wants}")  # noqa: T201 - whatever went wrong
        for driver in troubled.drivers:
            driver.send(signal.SIGABRT)  # the stacks of its threads
            driver.wait()
        troubled.tell_logs()
        raise


def make_trouble(troubled: Troubled, tally: Tally) -> Iterator["Size"]:
    """One trouble after another, each at least once, with calm between them; what the first driver has at each calm's end."""
    troubles: dict[str, Callable[[], None]] = {
        "OSD stopped": troubled.stop_osd,
        "blocklisted": troubled.blocklist,
        "key changed": troubled.change_key,
        "driver killed": troubled.kill_driver,
    }
    began = time.monotonic()
    for number, name in enumerate(itertools.cycle(troubles)):
        if number >= len(troubles) and time.monotonic() - began > SECONDS:
            return
        if name == "key changed" and number // len(troubles) % _KEYS_CHANGE_EVERY:
            continue
        tally.during = "calm"
        time.sleep(_CALM_S)
        yield size_of(troubled.drivers[0], time.monotonic() - began)
        tally.during = name
        troubles[name]()
        tally.during = f"after {name}"
        time.sleep(_AFTERWARDS_S)


def assert_steady(sizes: Sequence["Size"]) -> None:
    first, last = sizes[0], sizes[-1]
    assert last.mib < first.mib + _MORE_MIB, sizes
    assert last.threads < first.threads + _MORE_THREADS, sizes
    if warm := [one for one in sizes if one.at_s > _WARM_S]:
        earlier, later = warm[: len(warm) // 2], warm[len(warm) // 2 :]
        for what, most in _GROWN.items():
            before, after = (median(getattr(one, what) for one in half) for half in (earlier or later, later))
            assert after <= most * before, f"{what}: {before} at first, {after} then"


class Size(NamedTuple):
    """Of a driver: MiB in memory, and threads, so many seconds after the beginning."""

    at_s: float
    mib: int
    threads: int


def size_of(driver: DriverProcess, at_s: float) -> Size:
    status = Path(f"/proc/{driver.pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return Size(at_s, int(fields["VmRSS"].split()[0]) // 1024, int(fields["Threads"]))
