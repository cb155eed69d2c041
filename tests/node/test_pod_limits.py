"""Limits of I/O with the kernel's client: what the processes of a pod may do with its volume, and nobody else's."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from csi_driver.host.cgroups import unified_root
from tests.node.bench import BLOCK, KINDS, Bench, Code

pytestmark = pytest.mark.attacher("krbd")

POD = "0f6d1a34-9c1e-4d53-8a1b-3f0c8a6f2f11"
WRITES, PER_SECOND = 25, 5


@pytest.fixture
def pod() -> Iterator[Path]:
    """The cgroup of a pod, as a kubelet with systemd names it; not made yet."""
    root = unified_root()
    assert root
    above = root / "kubepods.slice/kubepods-besteffort.slice"
    above.mkdir(parents=True)
    pod = above / f"kubepods-besteffort-pod{POD.replace('-', '_')}.slice"
    yield pod
    for path in (pod, above, above.parent):
        if path.exists():
            path.rmdir()


def seconds_of_writes(path: Path, pod: Path | None) -> float:
    """One at a time and past the page cache, by a process of the pod or of none."""
    join = f"echo $$ > {pod}/cgroup.procs && " if pod else ""
    script = f"{join}exec dd if=/dev/zero of={path} bs=4k count={WRITES} oflag=direct conv=notrunc status=none"
    began = time.monotonic()
    subprocess.run(["sh", "-c", script], check=True)
    return time.monotonic() - began


@pytest.mark.parametrize(("kind", "encrypted"), [("ext4", "false"), ("block", "false"), ("ext4", "true")])
def test_a_pod_writes_no_faster_than_its_volume_allows(bench: Bench, pod: Path, kind: str, encrypted: str) -> None:
    bench.restart(limits={"write_iops": PER_SECOND})
    volume_id, wanted = bench.new_volume(), KINDS[kind]
    stage = bench.stage_request(volume_id, wanted, mounter="rbd", encrypted=encrypted)
    stage.secrets["encryptionPassphrase"] = "correct horse"
    bench.until_ok(bench.node.NodeStageVolume, stage)
    request = bench.publish_request(volume_id, wanted, name=POD)
    assert bench.code(bench.node.NodePublishVolume, request) is Code.UNAVAILABLE
    assert len(bench.mounts()) == 1
    pod.mkdir()
    bench.node.NodePublishVolume(request)
    assert f"wiops={PER_SECOND}" in (pod / "io.max").read_text()
    written = bench.target(POD) if kind == "block" else bench.target(POD) / "file"
    free_s = seconds_of_writes(written, None)
    limited_s = seconds_of_writes(written, pod)
    assert limited_s > 0.8 * WRITES / PER_SECOND
    assert free_s < limited_s


def test_limits_that_nobody_could_hold_stop_the_stage_or_the_publish(bench: Bench, pod: Path) -> None:
    bench.restart(limits={"read_bps": 1 << 20})
    volume_id = bench.new_volume()
    assert "follow a change" in bench.message(bench.node.NodeStageVolume, bench.stage_request(volume_id, BLOCK))
    bench.stage(volume_id, BLOCK, mounter="rbd")
    said = bench.message(bench.node.NodePublishVolume, bench.publish_request(volume_id, BLOCK))
    assert "not a pod's" in said
    bench.unstage(volume_id)
    for path in (pod.parent, pod.parent.parent):
        path.rmdir()
    request = bench.stage_request(volume_id, BLOCK, mounter="rbd")
    assert "no pods" in bench.message(bench.node.NodeStageVolume, request)
