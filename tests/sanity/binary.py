"""The csi-sanity program, built once from its Go module into .cache/."""

import os
import subprocess
from pathlib import Path

from tests.golang import CACHE, go

VERSION = "v5.6.0"
MODULE = "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"


def csi_sanity() -> Path:
    """The program of the pinned version."""
    home = CACHE / f"csi-sanity-{VERSION}"
    program = home / "csi-sanity"
    if not program.exists():
        environment = {**os.environ, "GOBIN": str(home), "GOFLAGS": "", "CGO_ENABLED": "0"}
        subprocess.run([str(go()), "install", f"{MODULE}@{VERSION}"], env=environment, check=True)
    return program
