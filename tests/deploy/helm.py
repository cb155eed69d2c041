"""The helm program, built once from its Go module into a directory that outlives the checkout."""

import os
import subprocess
from pathlib import Path

from tests.golang import go

VERSION = "v3.22.0"
MODULE = "helm.sh/helm/v3/cmd/helm"
CHART = Path(__file__).parents[2] / "deploy" / "chart"
KUBERNETES = "1.33.0"


def helm() -> Path:
    """The program of the pinned version; building it takes about three minutes: `python -m tests.deploy.helm`."""
    program = _home() / "helm"
    if not is_built():
        environment = {**os.environ, "GOBIN": str(_home()), "GOFLAGS": "", "CGO_ENABLED": "0"}
        subprocess.run([str(go()), "install", f"{MODULE}@{VERSION}"], env=environment, check=True)
    return program


def is_built() -> bool:
    return (_home() / "helm").exists()


def _home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "/var/cache")) / "rbd-csi" / f"helm-{VERSION}"


def rendered(*flags: str) -> str:
    """The chart's manifests as release `rbd-csi` in the namespace of that name. Raises CalledProcessError."""
    command = [str(helm()), "template", "rbd-csi", str(CHART), "--namespace", "rbd-csi", "--kube-version", KUBERNETES]
    return subprocess.run([*command, *flags], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    print(helm())  # noqa: T201
