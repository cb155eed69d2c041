"""The whole bed: a development Ceph, a Kubernetes of one node, and the driver in it as its chart and its image install it."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csi_driver.dev import cluster
from csi_driver.dev.layout import DevCeph, DevOptions
from tests.deploy.helm import CHART, helm
from tests.e2e import node, programs
from tests.e2e.control_plane import API, NODE, ControlPlane
from tests.e2e.images import write_image
from tests.e2e.kubectl import Kubectl
from tests.e2e.machine import MARK, Taken, addresses, held
from tests.e2e.node import DRIVER, ZONE_LABEL, Node
from tests.e2e.processes import Processes

PROJECT = Path(__file__).parents[2]
IMAGE = PROJECT / ".cache" / "image" / "rbd-csi.oci.tar"
NAMESPACE = RELEASE = "rbd-csi"
_CEPH = "10.95.0.1"
"""Where Ceph listens: pods of the controller have a network of their own and reach no loopback address."""
_REGISTRY = "registry.k8s.io/sig-storage"
_STAND_INS = {
    "csi-provisioner": "csi-provisioner:v6.3.0",
    "csi-attacher": "csi-attacher:v4.13.0",
    "csi-resizer": "csi-resizer:v2.3.0",
    "csi-snapshotter": "csi-snapshotter:v8.7.0",
    "registrar": "csi-node-driver-registrar:v2.16.0",
}
"""Programs in the images that the chart names: a machine without a registry builds them itself."""


@dataclass(frozen=True)
class Bed:
    ceph: DevCeph
    kubectl: Kubectl
    directory: Path
    plane: ControlPlane
    node: Node


@contextmanager
def made_bed(tell: Callable[[str], None], *, wait_s: int = 3600, keep: bool = False) -> Iterator[Bed]:
    """Everything is ended and unmounted afterwards. keep: only when the input ends. wait_s: for another bed's end.

    Raises MachineTaken.
    """
    directory = Path(tempfile.mkdtemp(prefix="rbd-csi-e2e-"))
    try:
        with held(directory, wait_s, _clear) as taken, addresses(API, _CEPH), _running(taken, tell) as bed:
            yield bed
            if keep:
                tell(f"kubectl --kubeconfig={bed.plane.kubeconfig('admin')}; the bed ends when the input does")
                sys.stdin.read()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _clear(left: Taken) -> None:
    """A bed that was killed."""
    node.clear(left)
    cluster.down(left.directory / "ceph", purge=True)
    shutil.rmtree(left.directory, ignore_errors=True)


@contextmanager
def _running(taken: Taken, tell: Callable[[str], None]) -> Iterator[Bed]:
    directory = taken.directory
    (directory / "logs").mkdir()
    processes = Processes(directory / "logs", programs.home(), {MARK: str(directory)})
    plane = ControlPlane(directory, programs.home(), processes)
    machine = Node(taken, programs.home(), processes, plane)
    try:
        ceph = cluster.up(DevOptions(directory / "ceph", address=_CEPH))
        tell("Ceph runs")
        plane.start()
        kubectl = Kubectl(programs.home() / "kubectl", plane.kubeconfig("admin"))
        bed = Bed(ceph, kubectl, directory, plane, machine)
        tell("the control plane runs")
        try:
            _start_node(bed)
            tell("the node is ready")
            _prepare(bed, processes)
            install(bed)
            tell("the driver runs, by its chart and image")
            yield bed
        except BaseException:
            _keep_logs(bed)
            raise
    finally:
        machine.end()
        processes.end()
        cluster.down(directory / "ceph", purge=True)


def _start_node(bed: Bed) -> None:
    bed.node.start()
    _import_images(bed.node, bed.directory)
    bed.kubectl.apply(_trust_of_nodes())
    bed.node.start_kubelet()
    bed.kubectl.await_that("the node is known", lambda: NODE in bed.kubectl.names("nodes"))
    bed.kubectl.await_condition(f"node/{NODE}", "condition=Ready")


def _import_images(node: Node, directory: Path) -> None:
    archive = directory / "image.tar"
    for program, name in _STAND_INS.items():
        write_image(archive, f"{_REGISTRY}/{name}", f"/bin/{program}", {f"/bin/{program}": programs.home() / program})
        node.import_image(archive)
    node.import_image(IMAGE)


def _trust_of_nodes() -> Mapping[str, Any]:
    """The node authorizer learns of a pod's claim a moment after the kubelet, which would then wait 15 s to ask again."""
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "bed-nodes"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "system:node"},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:nodes"}],
    }


def _prepare(bed: Bed, processes: Processes) -> None:
    """What the chart expects to be there."""
    kubectl = bed.kubectl
    kubectl.apply_text("---\n".join(path.read_text() for path in programs.snapshot_crds()))
    kubectl.await_condition("crd/volumesnapshots.snapshot.storage.k8s.io", "condition=Established")
    processes.start("snapshot-controller", f"--kubeconfig={bed.plane.kubeconfig('admin')}")
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for user in ("provisioner", "node"):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"ceph-{user}", "namespace": NAMESPACE}}
        kubectl.apply({**secret, "stringData": bed.ceph.secrets(user)})


def install(bed: Bed, *flags: str, chart: Path = CHART) -> None:
    """Or upgrade, with helm and its flags; returns when all pods are of this revision."""
    values = bed.directory / "values.json"
    values.write_text(json.dumps(driver_values(bed)))
    run_helm(bed, "upgrade", "--install", RELEASE, str(chart), "--values", str(values), *flags)
    await_driver(bed)


def run_helm(bed: Bed, *arguments: str) -> None:
    kubeconfig = f"--kubeconfig={bed.plane.kubeconfig('admin')}"
    command = [str(helm()), *arguments, f"--namespace={NAMESPACE}", kubeconfig]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"helm {arguments[0]}: {ended.stderr}"


def await_driver(bed: Bed) -> None:
    for part in (f"deployment/{RELEASE}-controller", f"daemonset/{RELEASE}-node"):
        bed.kubectl.run("rollout", "status", part, f"--namespace={NAMESPACE}", "--timeout=180s")
    bed.kubectl.await_that("the kubelet knows the driver", lambda: is_registered(bed, DRIVER))


def driver_values(bed: Bed) -> dict[str, Any]:
    return {
        "driverName": DRIVER,
        "image": {"repository": "localhost/rbd-csi", "tag": "dev", "pullPolicy": "Never"},
        "clusters": json.loads(bed.ceph.config_json.read_text()),
        "sidecars": {
            "snapshotter": {"groupSnapshots": True},
            "provisioner": {"extraArgs": ["--capacity-for-immediate-binding"]},  # a test of Kubernetes' own asks for it
        },
        "storageCapacity": True,
        "topology": {"enabled": True, "nodeLabels": {"zone": ZONE_LABEL}},
        "logLevel": "debug",
        "logFormat": "text",
    }


def is_registered(bed: Bed, name: str) -> bool:
    """Whether the kubelet knows a driver."""
    nodes = bed.kubectl.get("csinodes")["items"]
    return any(driver["name"] == name for node in nodes for driver in node["spec"].get("drivers") or ())


def _keep_logs(bed: Bed) -> None:
    """Of a run that failed: .cache/e2e has the logs of all parts and pods, and the events."""
    kept = PROJECT / ".cache" / "e2e"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(bed.directory / "logs", kept)
    if (bed.directory / "pod-logs").exists():
        shutil.copytree(bed.directory / "pod-logs", kept / "pods", symlinks=False, ignore_dangling_symlinks=True)
    with (kept / "events").open("w") as file:
        for what in ("events", "pods", "pvc,pv,volumesnapshots,volumeattachments"):
            try:
                file.write(bed.kubectl.run("get", what, "-A", "-o", "wide"))
            except (AssertionError, subprocess.TimeoutExpired) as trouble:
                file.write(f"{what}: {trouble}\n")
