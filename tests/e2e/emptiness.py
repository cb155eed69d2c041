"""Nothing is left of volumes: neither in the pool nor in what the driver's own audit finds."""

import subprocess
import sys

from csi_driver.dev.inventory import Place, leftovers
from csi_driver.dev.layout import DevCeph
from tests.e2e.bed import Bed


def pool_is_empty(ceph: DevCeph) -> None:
    left = leftovers(ceph, Place("rbd"))
    assert not left, "\n".join(sorted(left))


def audit_is_clean(bed: Bed) -> None:
    """Also of those that it could not look at."""
    command = [sys.executable, "-m", "csi_driver", "audit", "--clusters", str(bed.ceph.config_json), "--cluster", "dev"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
