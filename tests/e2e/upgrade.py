"""`helm upgrade` from an earlier chart and image, and the roll-back, while pods write.

The earlier state is a commit of this repository; in a checkout without its history it is the same image under another tag.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.e2e.bed import IMAGE, NAMESPACE, PROJECT, RELEASE, Bed, await_driver, install, run_helm
from tests.e2e.emptiness import audit_is_clean
from tests.e2e.node import RUN
from tests.e2e.objects import claim, of_claim, started
from tests.e2e.writers import Writers

EARLIER = "6ed7b24"
"""The first commit whose chart was installed in a Kubernetes, before static volumes and the sidecars' API rates."""
_TAG = "earlier"
_PODS = 20


def upgrade_and_roll_back(bed: Bed, tell: Callable[[str], None]) -> None:
    chart = _earlier(bed, tell)
    install(bed, "--set", f"image.tag={_TAG}", chart=chart)
    writers = Writers(bed, _PODS, "through")
    claim(bed, "old")
    devices = _daemons()
    install(bed)
    _use_what_the_other_made(bed, "old", made="new")
    writers.check()
    run_helm(bed, "rollback", RELEASE)
    await_driver(bed)
    _use_what_the_other_made(bed, "new", made="older")
    writers.check()
    assert _daemons() == devices, "a volume was attached anew"
    install(bed)
    bed.kubectl.delete("pvc/older")
    writers.check()
    for name in _node_pods(bed):
        log = bed.kubectl.run("logs", name, f"--namespace={NAMESPACE}", "--container=rbd-csi")
        assert "method=NodeStageVolume" not in log, "a volume was staged anew"
    writers.delete()
    audit_is_clean(bed)


def _use_what_the_other_made(bed: Bed, name: str, *, made: str) -> None:
    """Grow, stage and delete a volume of the other version; leave one of this version, and its snapshot's copy."""
    bed.kubectl.run("patch", "pvc", name, "--patch", '{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}')
    started(bed, f"{name}-user", of_claim(name), "echo hello > /data/greeting")
    bed.kubectl.await_condition(f"pvc/{name}", "jsonpath={.status.capacity.storage}=2Gi")
    claim(bed, made, size="2Gi", dataSource={"kind": "PersistentVolumeClaim", "name": name})
    bed.kubectl.delete(f"pod/{name}-user")
    bed.kubectl.delete(f"pvc/{name}")


def _earlier(bed: Bed, tell: Callable[[str], None]) -> Path:
    """The chart; its image is in the node's containerd."""
    has_history = subprocess.run(
        ["git", "cat-file", "-e", f"{EARLIER}^{{commit}}"], cwd=PROJECT, capture_output=True, check=False
    )
    if has_history.returncode:
        tell(f"no commit {EARLIER} here: the earlier version is this image under another tag")
        bed.node.import_image(IMAGE)
        bed.node.tag_image("localhost/rbd-csi:dev", f"localhost/rbd-csi:{_TAG}")
        return PROJECT / "deploy" / "chart"
    source = bed.directory / "earlier"
    source.mkdir()
    archive = subprocess.run(["git", "archive", EARLIER], cwd=PROJECT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
    shutil.copy2(PROJECT / "scripts" / "image", source / "scripts" / "image")  # it keeps its layers
    subprocess.run([str(source / "scripts" / "image"), _TAG], check=True, stdout=subprocess.DEVNULL)
    bed.node.import_image(source / ".cache" / "image" / "rbd-csi.oci.tar")
    tell(f"the image of commit {EARLIER} is made")
    return source / "deploy" / "chart"


def _daemons() -> frozenset[tuple[int, str]]:
    """Process ids of the attached volumes' daemons, with what they attach."""
    found = set()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if words.startswith("qemu-storage-daemon") and str(RUN) in words:
            image = re.search(r"csi-vol-[0-9a-f-]{36}", words)
            found.add((int(command.parent.name), image[0] if image else ""))
    return frozenset(found)


def _node_pods(bed: Bed) -> list[str]:
    return bed.kubectl.names("pods", f"--namespace={NAMESPACE}", "--selector=app.kubernetes.io/component=node")
