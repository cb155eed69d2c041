"""The runs of csi-sanity, each with its class, user and access type, from the driver's start to the judgement.

A run has its own driver process and its own paths, and must leave nothing: no image, no key, no mount. KERNEL_RUNS
need a kernel with rbd: they are the virtual machine's (scripts/vm).
"""

import json
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from csi_driver.cli.node_half import RUN_DIRECTORY
from csi_driver.dev.inventory import Place, leftovers
from csi_driver.dev.layout import DevCeph
from csi_driver.host.krbd_devices import KrbdDevices
from tests.driver import DriverProcess
from tests.golang import CACHE
from tests.sanity.binary import csi_sanity
from tests.sanity.judge import Verdict, expected_skips, judge

GIB = 1 << 30
RESULTS = CACHE / "sanity"
REPORT = "report.json"
TIMEOUT_MIN = 20
DRIVER_NAME = "sanity.csi.internal"  # its own directory of records, which must be empty in the end
PLACES = (Place("rbd"), Place("second"), Place("second", "ns"), Place("data"))


@dataclass(frozen=True)
class Run:
    """One pass over all specs."""

    name: str
    access_type: str = "mount"
    volume_class: str = "class.yaml"
    snapshot_class: str = "snapshotclass.yaml"
    secrets: str = "secrets.yaml"
    osds: int = 1
    mounter: str = ""
    """The class's parameter; empty: the node's own choice."""
    part: str = ""
    """How the names of the specs begin that are run; empty: all are."""


RUNS = (
    Run("mount"),
    Run("block", access_type="block"),
    Run(
        "namespace",
        volume_class="class-ns.yaml",
        snapshot_class="snapshotclass-ns.yaml",
        secrets="secrets-ns.yaml",
    ),
    Run("erasure", volume_class="class-data.yaml", osds=3),
)
KERNEL_RUNS = (Run("krbd", mounter="rbd", part="Node Service"),)


@dataclass(frozen=True)
class Outcome:
    """What a run came to. `leaks` and the verdict's problems are empty for a good one."""

    verdict: Verdict
    leaks: tuple[str, ...]
    seconds: float
    results: Path

    @property
    def is_good(self) -> bool:
        return self.verdict.is_good and not self.leaks


def carry_out(run: Run, ceph: DevCeph, all_results: Path = RESULTS) -> Outcome:
    """Report, output and driver's log stay in a directory of the run's name for whoever looks into a failure."""
    results = all_results / run.name
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    program, started = csi_sanity(), time.monotonic()
    paths = Path(tempfile.mkdtemp(prefix="csi-sanity-"))
    flags = ("--driver-name", DRIVER_NAME, "--topology", "--max-volumes-per-node", "3")
    with DriverProcess.start(*flags, clusters=ceph.config_json, node_id="sanity-node") as driver:
        try:
            _call(program, _flags(run, ceph, driver.socket, paths, results), results / "output.txt")
            seconds = time.monotonic() - started
            leaks = (
                *_mount_leaks(paths),
                *_node_leaks(),
                *_ceph_leaks(ceph),
            )  # while the driver runs: it empties the trash
        finally:
            shutil.copy(driver.log, results / "driver.log")
    verdict = judge(json.loads((results / REPORT).read_text()), expected_skips(), run.part)
    return Outcome(verdict, leaks, seconds, results)


def _flags(run: Run, ceph: DevCeph, socket: Path, paths: Path, results: Path) -> list[str]:
    """`paths` exists; the two directories below it must not (csi-sanity makes them itself)."""
    values = {
        "csi.endpoint": f"unix:{socket}",
        "csi.mountdir": paths / "mount",
        "csi.stagingdir": paths / "staging",
        "csi.secrets": ceph.directory / run.secrets,
        "csi.testvolumeparameters": _volume_class(run, ceph, results),
        "csi.testsnapshotparameters": ceph.directory / run.snapshot_class,
        "csi.testvolumemutableparameters": ceph.mutable_yaml,
        "csi.testvolumesize": GIB,
        "csi.testvolumeexpandsize": 2 * GIB,
        "csi.testvolumeaccesstype": run.access_type,
        "ginkgo.json-report": results / REPORT,
        "ginkgo.timeout": f"{TIMEOUT_MIN}m",
    }
    switches = ["-csi.testnodevolumeattachlimit", "-ginkgo.no-color", "-ginkgo.randomize-all"]
    switches += [f"-ginkgo.focus={run.part}"] if run.part else []
    return [*(f"-{name}={value}" for name, value in values.items()), *switches]


def _volume_class(run: Run, ceph: DevCeph, results: Path) -> Path:
    """The cluster's own file, or one with the mounter beside the results."""
    made = ceph.directory / run.volume_class
    if not run.mounter:
        return made
    changed = results / run.volume_class
    changed.write_text(yaml.safe_dump(yaml.safe_load(made.read_text()) | {"mounter": run.mounter}))
    return changed


def _call(program: Path, flags: list[str], output: Path) -> None:
    """The exit code is not asked: the report tells more."""
    with output.open("wb") as file:
        timeout_s = TIMEOUT_MIN * 60 + 60
        subprocess.run([str(program), *flags], stdout=file, stderr=file, check=False, timeout=timeout_s)


def _mount_leaks(paths: Path) -> list[str]:
    """Mounts below the run's directory, which is removed when there are none."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    left = [f"still mounted: {point}" for point in mounts if Path(point).is_relative_to(paths)]
    if not left:
        shutil.rmtree(paths)
    return left


def _node_leaks() -> list[str]:
    """What the node half keeps of staged volumes: mappings, records, sockets of daemons, images as files; locks stay."""
    kept = [path for path in sorted((RUN_DIRECTORY / DRIVER_NAME).rglob("*")) if path.suffix != ".lock"]
    return [f"left on the node: {found}" for found in (*kept, *(one.device.path for one in KrbdDevices().mapped()))]


def _ceph_leaks(ceph: DevCeph) -> list[str]:
    return [f"left in {place}: {line}" for place in PLACES for line in sorted(leftovers(ceph, place))]
