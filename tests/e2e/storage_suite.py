"""Kubernetes' own storage tests ("External Storage" of e2e.test) against the driver: `make e2e SUITE=storage`.

testdriver.yaml tells them what the driver can. They run in parts side by side: most of their time is waiting. Those of group
snapshots ask for volumes of 1 MiB and restore them at that size, for which xfs is too large: their class is for ext4.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e import programs
from tests.e2e.bed import Bed
from tests.e2e.images import write_image
from tests.e2e.objects import make_classes, new_class

TEST_DRIVER = Path(__file__).with_name("testdriver.yaml")
SKIPPED = (r"\[Disruptive\]", r"\[Serial\]", r"\[Slow\]")
"""They want a cluster for themselves or nodes that can be rebooted, or take long (docs/conformance.md)."""
_GROUPS = "volumegroupsnapshottable"
_FOCI = {
    "groups": _GROUPS,
    "snapshots": "(Dynamic|Ephemeral|Pre-provisioned) Snapshot",
    "ephemeral": "Generic Ephemeral-volume",
    "growth": "volume-expand",
}
_PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    name: (focus, () if name == "groups" else (_GROUPS,)) for name, focus in _FOCI.items()
}
_PARTS["rest"] = ("", tuple(_FOCI.values()))
"""What is focused on and what is skipped in each part."""
_OF_EXT4 = "StorageClass: {FromExistingClassName: rbd-ext4}"
_REGISTRY = "bed.local"
_LIMIT_S = 3 * 3600
_NSENTER = """#!/bin/sh
# The tests enter the mount namespace of process 1, which a sandboxed root may not do; the kubelet's is the same one.
target=$(echo "$1" | /bin/busybox sed s,/proc/1/ns/,/proc/{pid}/ns/,); shift
exec /bin/busybox nsenter "$target" "$@"
"""


@dataclass(frozen=True)
class Outcome:
    """Of the specs that were selected, by their full names."""

    passed: tuple[str, ...]
    failed: tuple[str, ...]


def steps(tell: Callable[[str], None]) -> Iterator[tuple[str, Callable[[Bed], None]]]:
    yield "classes", _make_classes
    yield "the tests' images are there", _load_images
    yield "Kubernetes' own storage tests have passed", lambda bed: _run(bed, tell)


def _run(bed: Bed, tell: Callable[[str], None]) -> None:
    parts = [_started(bed, name, focus, (*SKIPPED, *skip)) for name, (focus, skip) in _PARTS.items()]
    try:
        for part in parts:
            part.wait(_LIMIT_S)
    finally:
        for part in parts:
            part.kill()
    outcomes = [_outcome(bed.directory / f"{name}.json") for name in _PARTS]
    failed = [name for outcome in outcomes for name in outcome.failed]
    tell(f"{sum(len(outcome.passed) for outcome in outcomes)} passed, {len(failed)} failed")
    assert not failed, "\n".join(failed)


def _make_classes(bed: Bed) -> None:
    make_classes(bed)
    new_class(bed, "rbd-ext4", {"csi.storage.k8s.io/fstype": "ext4"})


def _test_driver(bed: Bed, part: str) -> Path:
    if part != "groups":
        return TEST_DRIVER
    of_ext4 = bed.directory / "testdriver-ext4.yaml"
    of_ext4.write_text(TEST_DRIVER.read_text().replace("StorageClass: {FromExistingClassName: rbd}", _OF_EXT4, 1))
    return of_ext4


def _started(bed: Bed, name: str, focus: str, skip: tuple[str, ...]) -> subprocess.Popen[bytes]:
    command = [
        *_command(bed, _test_driver(bed, name)),
        f"-ginkgo.focus=External.Storage.*({focus})",
        f"-ginkgo.skip={'|'.join(skip)}",
        f"-ginkgo.json-report={bed.directory / f'{name}.json'}",
        f"-ginkgo.timeout={_LIMIT_S}s",
    ]
    with (bed.directory / "logs" / f"storage-{name}.log").open("wb") as log:
        return subprocess.Popen(command, env=_environment(bed), stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _command(bed: Bed, test_driver: Path) -> list[str]:
    return [
        str(programs.home() / "e2e.test"),
        "--provider=skeleton",
        f"--kubectl-path={programs.home() / 'kubectl'}",
        f"--kubeconfig={bed.plane.kubeconfig('admin')}",
        f"-storage.testdriver={test_driver}",
        "-ginkgo.no-color",
        "-ginkgo.silence-skips",
    ]


def _environment(bed: Bed) -> dict[str, str]:
    registries = bed.directory / "registries.yaml"
    registries.write_text("".join(f"{name}: {_REGISTRY}\n" for name in ("promoterE2eRegistry", "gcRegistry")))
    return {**os.environ, "KUBE_TEST_REPO_LIST": str(registries)}


def _outcome(report: Path) -> Outcome:
    (suite,) = json.loads(report.read_text())
    specs = [one for one in suite["SpecReports"] or () if one["LeafNodeType"] == "It" and one["State"] != "skipped"]
    names = {
        " ".join((*(one["ContainerHierarchyTexts"] or ()), one["LeafNodeText"])): one["State"] == "passed"
        for one in specs
    }
    assert names, f"{report}: no test was selected"
    return Outcome(
        tuple(name for name, is_passed in names.items() if is_passed),
        tuple(name for name, is_passed in names.items() if not is_passed),
    )


def _load_images(bed: Bed) -> None:
    """Under each of the tags that the tests may ask for; there is no registry. nginx is asked for its shell alone."""
    listed = subprocess.run(
        [*_command(bed, TEST_DRIVER), "--list-images"],
        env=_environment(bed),
        capture_output=True,
        text=True,
        check=True,
    )
    busybox, nsenter = Path("/bin/busybox"), bed.directory / "nsenter"
    nsenter.write_text(_NSENTER.format(pid=bed.node.kubelet_pid()))
    agnhost = {"/agnhost": programs.home() / "agnhost", "/bin/busybox": busybox, "/bin/nsenter": nsenter}
    archive = bed.directory / "image.tar"
    for reference in re.findall(rf"^{_REGISTRY}/(?:agnhost|busybox|nginx):.*$", listed.stdout, re.MULTILINE):
        if "/agnhost:" in reference:
            write_image(archive, reference, "/agnhost", agnhost)
        else:
            write_image(archive, reference, "/bin/sh", {"/bin/busybox": busybox})
        bed.node.import_image(archive)
