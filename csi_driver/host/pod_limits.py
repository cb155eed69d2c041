"""Limits of a pod's I/O on one block device: `io.max` in its cgroup (Linux: Documentation/admin-guide/cgroup-v2.rst).

The kubelet makes a pod's cgroup below `kubepods`, named after the pod's uid, before it starts the pod's first container. The
controller `io` reaches it when every cgroup above hands it on, which container runtimes see to; where not, it is done here.
Nothing is taken back: a limit ends with the cgroup of its pod. A container must see the machine's hierarchy for this
(privileged, host's cgroup namespace).
"""

from pathlib import Path

from csi_driver.errors import DeviceTrouble
from csi_driver.host.cgroups import unified_root

_PODS = ("kubepods.slice", "kubepods")
"""As systemd names it, and as the kubelet itself does."""
_LIMITS, _CONTROLLERS, _HANDED_ON = "io.max", "cgroup.controllers", "cgroup.subtree_control"


class CgroupLimits:
    """By the hierarchy of version 2 (host.api.PodLimits). root: its mount point; None: the one of the mount table."""

    def __init__(self, root: Path | None = None) -> None:
        self._given = root

    def unavailable_reason(self) -> str | None:
        root = self._root()
        if root is None:
            return "this machine has no hierarchy of cgroup version 2, or it cannot be seen from here"
        if "io" not in _words(root / _CONTROLLERS):
            return f"the controller io is not in the hierarchy of cgroup version 2 at {root}"
        if self._pods() is None:
            return f"there are no pods below {root}"
        return None

    def hold(self, pod: str, number: str, limits: str) -> None:
        directory = self._of_pod(pod)
        if directory is None:
            raise DeviceTrouble(f"the kubelet has made no cgroup for pod {pod} yet, in which limits of I/O are held")
        try:
            if not (directory / _LIMITS).exists():
                self._hand_on(directory)
            (directory / _LIMITS).write_text(f"{number} {limits}\n", encoding="ascii")
        except OSError as error:
            raise DeviceTrouble(f"limits {limits} of {number} cannot be set for pod {pod}: {error}") from error

    def _root(self) -> Path | None:
        return self._given or unified_root()

    def _pods(self) -> Path | None:
        root = self._root()
        found = [root / name for name in _PODS if (root / name).is_dir()] if root else []
        return found[0] if found else None

    def _of_pod(self, pod: str) -> Path | None:
        """Guaranteed pods are directly below, others below their class's cgroup."""
        pods = self._pods()
        names = (f"*-pod{pod.replace('-', '_')}.slice", f"pod{pod}")
        return next((one for name in names for one in pods.rglob(name)), None) if pods else None

    def _hand_on(self, directory: Path) -> None:
        root = self._root()
        assert root
        for above in reversed([one for one in directory.parents if one.is_relative_to(root)]):
            if "io" not in _words(above / _HANDED_ON):
                (above / _HANDED_ON).write_text("+io\n", encoding="ascii")


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []
