"""Many claims at once, and what breaks under them.

`hundred_claims` measures; `faults` kills what a cluster loses now and then, while 200 claims with copies are made.
"""

import os
import re
import signal
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.e2e.bed import NAMESPACE, Bed, await_driver
from tests.e2e.emptiness import audit_is_clean, pool_is_empty
from tests.e2e.objects import claim_object, snapshot_object, snapshot_source
from tests.e2e.writers import Writers

AWAY_S = 60.0
_LONG_S = 900.0
_LABELS = {"load": "faults"}
_CLAIMS, _SNAPSHOTS, _RESTORED, _CLONED = 120, 40, 40, 40
_ANSWER = re.compile(r"time=(\S+) .*event=answer .*code=OK method=CreateVolume .*seconds=([0-9.]+)")


def hundred_claims(bed: Bed) -> str:
    """100 claims with the stock sidecars: the time to all bound, and how much of it a CreateVolume was under way."""
    names = [f"many-{n}" for n in range(100)]
    began = time.monotonic()
    since = time.time()
    bed.kubectl.apply(*(claim_object(name) for name in names))
    applied = time.monotonic() - began
    _await_bound(bed, names)
    took = time.monotonic() - began
    spans = sorted(_spans(bed, since))
    seconds = sorted(end - start for start, end in spans)
    bed.kubectl.run("delete", "pvc", *names, "--wait", "--timeout=180s")
    _await_no_volumes(bed)
    gone = time.monotonic() - began - took
    return (
        f"100 claims bound in {took:.1f} s, {applied:.1f} s of it to hand them in; a CreateVolume was under way for "
        f"{_union(spans):.1f} s, {sum(seconds):.1f} s of calls, median {seconds[50] * 1000:.0f} ms, slowest "
        f"{seconds[-1] * 1000:.0f} ms; deleted in {gone:.1f} s"
    )


def faults(bed: Bed) -> None:
    writers = Writers(bed, 5, "steady")
    names = _hand_in(bed)
    for fault in (_kill_leading_provisioner, _kill_controller_pod, _restart_node_plugin, _api_server_away):
        fault(bed)
        _hand_in_again(bed, names)
    _await_bound(bed, names)
    snapshots = [f"cut-{n}" for n in range(_SNAPSHOTS)]
    bed.kubectl.await_that("all snapshots are ready", lambda: _ready_snapshots(bed) >= set(snapshots), _LONG_S)
    writers.check()
    await_driver(bed)
    bed.kubectl.run("delete", "pvc,volumesnapshots", "--selector=load=faults", "--wait=false")
    bed.kubectl.await_that("all claims and snapshots are gone", lambda: not _left(bed), _LONG_S)
    writers.check()
    writers.delete()
    _await_no_volumes(bed)
    pool_is_empty(bed.ceph)
    audit_is_clean(bed)


def _hand_in(bed: Bed) -> list[str]:
    """All at once: copies wait for their snapshots and these for their volumes."""
    bases = [f"base-{n}" for n in range(_CLAIMS)]
    objects: list[dict[str, Any]] = [claim_object(name, labels=_LABELS) for name in bases]
    objects += [snapshot_object(f"cut-{n}", f"base-{n}", labels=_LABELS) for n in range(_SNAPSHOTS)]
    for n in range(_RESTORED):
        objects.append(claim_object(f"restored-{n}", labels=_LABELS, dataSource=snapshot_source(f"cut-{n}")))
    for n in range(_CLONED):
        source = {"kind": "PersistentVolumeClaim", "name": f"base-{n}"}
        objects.append(claim_object(f"cloned-{n}", labels=_LABELS, dataSource=source))
    bed.kubectl.apply(*objects)
    return [one["metadata"]["name"] for one in objects if one["kind"] == "PersistentVolumeClaim"]


def _hand_in_again(bed: Bed, names: list[str]) -> None:
    """Delete some and make them anew, so that each fault meets work, however fast the machine is."""
    again = [name for name in names if name.startswith("base-") and int(name[5:]) >= _CLAIMS - 40]
    bed.kubectl.run("delete", "pvc", *again, "--wait=false")
    bed.kubectl.await_that("they are gone", lambda: not set(again) & set(bed.kubectl.names("pvc")), _LONG_S)
    bed.kubectl.apply(*(claim_object(name, labels=_LABELS) for name in again))


def _kill_leading_provisioner(bed: Bed) -> None:
    pod = _leader(bed)
    pids = [pid for pid in _processes_of(pod) if "csi-provisioner" in _command_of(pid)]
    assert pids, f"no provisioner of {pod}"
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def _kill_controller_pod(bed: Bed) -> None:
    bed.kubectl.run("delete", "pod", _leader(bed), f"--namespace={NAMESPACE}", "--grace-period=0", "--force")


def _restart_node_plugin(bed: Bed) -> None:
    bed.kubectl.run("rollout", "restart", "daemonset/rbd-csi-node", f"--namespace={NAMESPACE}")


def _api_server_away(bed: Bed) -> None:
    bed.plane.end_api_server()
    time.sleep(AWAY_S)  # it is its being away that is tried
    bed.plane.start_api_server()


def _leader(bed: Bed) -> str:
    """The pod of the provisioner that leads."""
    (lease,) = [
        one
        for one in bed.kubectl.get("leases", "", f"--namespace={NAMESPACE}")["items"]
        if not one["metadata"]["name"].startswith("external-")
    ]
    holder: str = lease["spec"]["holderIdentity"]
    return holder


def _processes_of(pod: str) -> list[int]:
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"POD_NAME={pod}".encode() in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found


def _command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def _await_bound(bed: Bed, names: list[str]) -> None:
    def all_bound() -> bool:
        claims = bed.kubectl.get("pvc")["items"]
        bound = {one["metadata"]["name"] for one in claims if one["status"].get("phase") == "Bound"}
        return bound >= set(names)

    bed.kubectl.await_that("all claims are bound", all_bound, _LONG_S)


def _ready_snapshots(bed: Bed) -> set[str]:
    found = bed.kubectl.get("volumesnapshots")["items"]
    return {one["metadata"]["name"] for one in found if one.get("status", {}).get("readyToUse")}


def _left(bed: Bed) -> list[str]:
    return [*bed.kubectl.names("pvc", "--selector=load=faults"), *bed.kubectl.names("volumesnapshots")]


def _await_no_volumes(bed: Bed) -> None:
    bed.kubectl.await_that("no volume is left", lambda: not _volumes(bed), _LONG_S)


def _volumes(bed: Bed) -> list[str]:
    """Of claims in the namespace of the scenario."""
    found = bed.kubectl.get("pv")["items"]
    return [one["metadata"]["name"] for one in found if one["spec"]["claimRef"]["namespace"] == "default"]


def _spans(bed: Bed, since: float) -> list[tuple[float, float]]:
    """Begin and end of each CreateVolume, as the logs of the controllers have them."""
    spans = []
    for pod in bed.kubectl.names(
        "pods", f"--namespace={NAMESPACE}", "--selector=app.kubernetes.io/component=controller"
    ):
        log = bed.kubectl.run("logs", pod, f"--namespace={NAMESPACE}", "--container=rbd-csi")
        for when, seconds in _ANSWER.findall(log):
            end = _timestamp(when)
            if end > since:
                spans.append((end - float(seconds), end))
    return spans


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _union(spans: list[tuple[float, float]]) -> float:
    """Seconds covered by at least one span; sorted."""
    total, reach = 0.0, 0.0
    for start, end in spans:
        total += max(0.0, end - max(start, reach))
        reach = max(reach, end)
    return total
