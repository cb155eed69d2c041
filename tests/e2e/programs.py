"""The programs of Kubernetes, built from their Go modules. Built once, into a directory that outlives the checkout."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.golang import go

_MODULES = Path(__file__).parent / "go"


@dataclass(frozen=True)
class Program:
    """A main package of a module; the go.mod of `group` says in which version."""

    name: str
    group: str
    package: str
    is_test: bool = False


PROGRAMS = (
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    *(
        Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}")
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet")
    ),
    Program("csi-provisioner", "provisioner", "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner"),
    Program("csi-attacher", "sidecars", "github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher"),
    Program("csi-resizer", "sidecars", "github.com/kubernetes-csi/external-resizer/v2/cmd/csi-resizer"),
    Program("csi-snapshotter", "sidecars", "github.com/kubernetes-csi/external-snapshotter/v8/cmd/csi-snapshotter"),
    Program(
        "snapshot-controller", "sidecars", "github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller"
    ),
    Program("registrar", "sidecars", "./registrar"),
    Program("pause", "sidecars", "./pause"),
    Program("containerd", "containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
    Program("containerd-shim-runc-v2", "containerd", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
    Program("ctr", "containerd", "github.com/containerd/containerd/v2/cmd/ctr"),
)
STORAGE_TESTS = (
    Program("agnhost", "storage", "k8s.io/kubernetes/test/images/agnhost"),
    Program("e2e.test", "storage", "k8s.io/kubernetes/test/e2e", is_test=True),
)
_CRDS = "github.com/kubernetes-csi/external-snapshotter/client/v8"


def home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "/var/cache")) / "rbd-csi" / "kubernetes"


def missing(wanted: Iterable[Program]) -> list[Program]:
    return [one for one in wanted if not (home() / one.name).exists()]


def build(wanted: Iterable[Program], tell: Callable[[str], None]) -> None:
    """What is missing; about half an hour for all of it on two cores."""
    home().mkdir(parents=True, exist_ok=True)
    for program in missing(wanted):
        tell(f"building {program.name}")
        unfinished = home() / f"{program.name}.part"
        building = ("test", "-c") if program.is_test else ("build",)
        _go(program.group, *building, "-ldflags", _flags(program), "-o", str(unfinished), program.package)
        unfinished.rename(home() / program.name)
    snapshot_crds()


def snapshot_crds() -> list[Path]:
    """The CRDs of VolumeSnapshots, as the module of the snapshotter's client has them."""
    kept = home() / "crds"
    if not kept.exists():
        told = _go("sidecars", "mod", "download", "-json", _CRDS)
        directory = re.search(r'"Dir": "(.*)"', told)
        assert directory
        unfinished = home() / "crds.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(Path(directory[1]) / "config" / "crd", unfinished)
        unfinished.rename(kept)
    return sorted(kept.glob("*storage.k8s.io_*.yaml"))


def _flags(program: Program) -> str:
    """Without its version Kubernetes takes itself for v0.0.0, and parts refuse each other."""
    flags = "-s -w"
    if program.group in ("kubernetes", "storage"):
        version = _go(program.group, "list", "-f", "{{.Module.Version}}", program.package).strip()
        minor = version.split(".")[1]
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
            flags += f" -X {package}.gitVersion={version} -X {package}.gitMajor=1 -X {package}.gitMinor={minor}"
    return flags


def _go(group: str, *arguments: str) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-trimpath -mod=readonly"}
    directory = _MODULES / group
    ended = subprocess.run(
        [str(go()), *arguments], cwd=directory, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return ended.stdout
