"""Limits of a pod's I/O: which cgroup is the pod's, and what is written there. The kernel's part: tests/node."""

from pathlib import Path

import pytest

from csi_driver.errors import DeviceTrouble
from csi_driver.host.pod_limits import CgroupLimits
from csi_driver.operations.publishing import pod_of

POD = "0f6d1a34-9c1e-4d53-8a1b-3f0c8a6f2f11"
HASH = "0123456789abcdef0123456789abcdef"
KUBELET = "/var/lib/kubelet"


@pytest.mark.parametrize(
    ("target", "pod"),
    [
        (f"{KUBELET}/pods/{POD}/volumes/kubernetes.io~csi/pvc-1/mount", POD),
        (f"{KUBELET}/pods/{HASH}/volumes/kubernetes.io~csi/pvc-1/mount", HASH),
        (f"{KUBELET}/plugins/kubernetes.io/csi/volumeDevices/publish/pvc-{POD}/{POD}", POD),
        (f"/var/lib/pods/kubelet/pods/{POD}/volumes/kubernetes.io~csi/pvc-1/mount", POD),
        (f"{KUBELET}/plugins/kubernetes.io/csi/volumeDevices/publish/pvc-{POD}/dev", None),
        (f"/mnt/pvc-{POD}/mount", None),
        ("/mnt/pods", None),
    ],
)
def test_a_target_path_of_the_kubelet_names_its_pod(target: str, pod: str | None) -> None:
    assert pod_of(Path(target)) == pod


def cgroup(path: Path, *, has_io: bool = True, hands_on: bool = True) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.controllers").write_text("cpu io\n" if has_io else "cpu\n")
    (path / "cgroup.subtree_control").write_text("cpu io\n" if hands_on else "cpu\n")
    return path


@pytest.mark.parametrize(
    "below",
    [
        f"kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice",
        f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD.replace('-', '_')}.slice",
        f"kubepods/pod{POD}",
        f"kubepods/besteffort/pod{POD}",
    ],
)
def test_a_pods_cgroup_is_found_however_it_is_named(tmp_path: Path, below: str) -> None:
    pod = cgroup(tmp_path / below)
    cgroup(tmp_path)
    (pod / "io.max").touch()
    CgroupLimits(tmp_path).hold(POD, "252:16", "wiops=5 rbps=1000")
    assert (pod / "io.max").read_text() == "252:16 wiops=5 rbps=1000\n"


def test_the_controller_is_handed_on_where_it_is_not(tmp_path: Path) -> None:
    for above in (tmp_path, tmp_path / "kubepods"):
        cgroup(above, hands_on=above == tmp_path)
    pod = cgroup(tmp_path / "kubepods" / f"pod{POD}", hands_on=False)
    CgroupLimits(tmp_path).hold(POD, "252:16", "wiops=5")
    assert (tmp_path / "kubepods/cgroup.subtree_control").read_text() == "+io\n"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "cpu io\n"
    assert (pod / "cgroup.subtree_control").read_text() == "cpu\n", "only to the pod, not to its containers"


def test_a_pod_that_the_kubelet_has_not_made_yet_is_waited_for(tmp_path: Path) -> None:
    cgroup(tmp_path / "kubepods")
    with pytest.raises(DeviceTrouble, match=POD):
        CgroupLimits(tmp_path).hold(POD, "252:16", "wiops=5")


def test_a_machine_without_hierarchy_controller_or_pods_says_which(tmp_path: Path) -> None:
    assert "controller io" in (CgroupLimits(tmp_path).unavailable_reason() or "")
    cgroup(tmp_path)
    assert "no pods" in (CgroupLimits(tmp_path).unavailable_reason() or "")
    cgroup(tmp_path / "kubepods.slice")
    assert CgroupLimits(tmp_path).unavailable_reason() is None
