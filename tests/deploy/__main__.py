"""Writes the plain manifests, or tells with --check whether they are what the chart gives."""

import sys
from pathlib import Path

from tests.deploy.helm import rendered

MANIFESTS = Path(__file__).parents[2] / "deploy" / "manifests" / "rbd-csi.yaml"
_HEAD = """# Rendered from deploy/chart by scripts/manifests: change the chart, not this file. The clusters file
# (docs/operating.md) is in a Secret that you make:
#   kubectl create secret generic rbd-csi-clusters --namespace rbd-csi --from-file=config.json
apiVersion: v1
kind: Namespace
metadata:
  name: rbd-csi
"""


def content() -> str:
    return _HEAD + rendered("--set", "existingClustersSecret=rbd-csi-clusters")


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(MANIFESTS.read_text() != content())
    MANIFESTS.write_text(content())
