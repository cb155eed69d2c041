"""One node: containerd, the images that it cannot pull, and the kubelet.

Needs root, runc, CNI's plugins and a static busybox.
"""

import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import yaml

from tests.e2e.control_plane import NODE, ControlPlane
from tests.e2e.images import write_image
from tests.e2e.machine import Taken, end_marked, end_pods, remove_cgroups
from tests.e2e.processes import BedFailed, Processes

KUBELET = Path("/var/lib/kubelet")
ZONE_LABEL, ZONE = "topology.kubernetes.io/zone", "here"
PAUSE, BUSYBOX = "bed.local/pause:1", "bed.local/busybox:1"
_OURS = KUBELET / ".rbd-csi-bed"
DRIVER = "e2e.csi.internal"
"""A name of the bed's own: what it leaves on the machine is told from another driver's by it."""
RUN = Path("/run/rbd-csi") / DRIVER
THEIRS = "rbd.csi.ceph.com"
"""The name of a deployment whose volumes are taken over."""
_RUNS = (RUN, RUN.with_name(THEIRS))
_READY_S = 120.0


class Node:
    """The node `localhost` of a control plane. `images`: archives besides the two that every node needs."""

    def __init__(self, taken: Taken, programs: Path, processes: Processes, plane: ControlPlane) -> None:
        self._taken = taken
        directory = taken.directory
        self._directory = directory
        self._programs = programs
        self._processes = processes
        self._plane = plane
        self._socket = directory / "containerd" / "containerd.sock"
        self._was_private = False

    def start(self) -> None:
        """Raises BedFailed where another kubelet's directory is in the way."""
        if KUBELET.exists() and any(KUBELET.iterdir()) and not _OURS.exists():
            raise BedFailed(f"{KUBELET} is another kubelet's")
        KUBELET.mkdir(parents=True, exist_ok=True)
        _OURS.touch()
        self._was_private = " shared:" not in _root_mount()
        subprocess.run(["mount", "--make-rshared", "/"], check=True)  # pods see later mounts, and the machine theirs
        self._start_containerd()
        self._import_base_images()

    def start_kubelet(self) -> None:
        config = self._directory / "kubelet.yaml"
        config.write_text(yaml.safe_dump(self._kubelet_config()))
        self._processes.start(
            "kubelet",
            f"--config={config}",
            f"--kubeconfig={self._plane.kubeconfig('node')}",
            f"--root-dir={KUBELET}",
            f"--hostname-override={NODE}",
            f"--node-labels={ZONE_LABEL}={ZONE}",
        )

    def kubelet_pid(self) -> int:
        return self._processes.pid("kubelet")

    def import_image(self, archive: Path) -> None:
        self._ctr("images", "import", "--all-platforms", str(archive))

    def tag_image(self, reference: str, other: str) -> None:
        self._ctr("images", "tag", "--force", reference, other)

    def end(self) -> None:
        """Pods first, by killing them; then what they left mounted, and their cgroups."""
        self._processes.end("kubelet")
        end_pods(self._taken)
        self._processes.end("containerd")
        clear(self._taken)
        if self._was_private:
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)

    def _start_containerd(self) -> None:
        home = self._directory / "containerd"
        network = self._directory / "cni"
        for directory in (home, network):
            directory.mkdir()
        ranges = [[{"subnet": "10.244.0.0/24"}]]
        routes = [{"dst": "0.0.0.0/0"}]  # to the machine itself, which has the API server and Ceph
        addresses = {"type": "host-local", "dataDir": str(network / "state"), "ranges": ranges, "routes": routes}
        plugin = {"type": "ptp", "ipMasq": False, "ipam": addresses}
        (network / "10-bed.conflist").write_text(
            json.dumps({"cniVersion": "1.0.0", "name": "bed", "plugins": [plugin]})
        )
        config = home / "config.toml"
        config.write_text(_CONTAINERD.format(home=home, network=network, socket=self._socket, pause=PAUSE))
        self._processes.start("containerd", f"--config={config}")
        self._processes.await_ready("containerd", self._answers, _READY_S)

    def _answers(self) -> bool:
        command = [str(self._programs / "ctr"), f"--address={self._socket}", "version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _import_base_images(self) -> None:
        archive = self._directory / "image.tar"
        write_image(archive, PAUSE, "/bin/pause", {"/bin/pause": self._programs / "pause"})
        self.import_image(archive)
        write_image(archive, BUSYBOX, "/bin/sh", {"/bin/busybox": Path("/bin/busybox")})
        self.import_image(archive)

    def _ctr(self, *arguments: str) -> str:
        command = [str(self._programs / "ctr"), f"--address={self._socket}", "--namespace=k8s.io", *arguments]
        return subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout

    def _kubelet_config(self) -> dict[str, object]:
        pki = self._plane.certificates
        never = dict.fromkeys(("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available"), "0%")
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "readOnlyPort": 0,
            "healthzPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": pki.path("ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": pki.path("kubelet.crt"),
            "tlsPrivateKeyFile": pki.path("kubelet.key"),
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            "syncFrequency": "5s",  # an online growth waits for the next look at its pod
            "nodeStatusUpdateFrequency": "1s",  # an attach waits for volumesInUse, which this reports
            "enforceNodeAllocatable": [],
            "makeIPTablesUtilChains": False,
            "resolvConf": "",
            "volumePluginDir": str(self._directory / "volume-plugins"),
            "podLogsDir": str(self._directory / "pod-logs"),
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {**never, "imagefs.inodesFree": "0%"},
        }


def clear(taken: Taken) -> None:
    """What a node leaves on the machine, also one that was killed."""
    end_marked(taken)
    end_pods(taken)
    _unmount(f"{KUBELET}/", f"{taken.directory}/")
    for run in _RUNS:
        _end_attached(run)
    remove_cgroups()
    if _OURS.exists():
        subprocess.run(["rm", "-rf", "--one-file-system", str(KUBELET)], check=True)


def _end_attached(run: Path) -> None:
    """Of a run that failed: the daemons of its volumes outlive their pods, as they must."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if command.read_bytes().startswith(b"qemu-storage-daemon") and str(run).encode() in command.read_bytes():
                os.kill(int(command.parent.name), signal.SIGKILL)
    _unmount(f"{run}/")
    for device in Path("/sys/block").glob("loop*/loop/backing_file"):
        if device.read_text().startswith(f"{run}/"):
            subprocess.run(["losetup", "--detach", f"/dev/{device.parent.parent.name}"], check=False)
    shutil.rmtree(run, ignore_errors=True)


def _unmount(*below: str) -> None:
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if (target := line.split()[4]).startswith(below):
            subprocess.run(["umount", "-l", target], check=False)


def _root_mount() -> str:
    """The line of mountinfo."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return next(line for line in lines if line.split()[4] == "/")


_CONTAINERD = """version = 3
root = "{home}/root"
state = "{home}/state"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.erofs", "io.containerd.differ.v1.erofs"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = false
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "{network}"
"""
