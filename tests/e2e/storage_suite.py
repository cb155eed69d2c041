"""Kubernetes' own storage tests ("External Storage" of e2e.test) against the driver: `make e2e SUITE=storage`.

testdriver.yaml tells them what the driver can. They run in two halves side by side: most of their time is waiting.
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
from tests.e2e.objects import make_classes

TEST_DRIVER = Path(__file__).with_name("testdriver.yaml")
SKIPPED = (r"\[Disruptive\]", r"\[Serial\]", r"\[Slow\]")
"""They want a cluster for themselves or nodes that can be rebooted, or take long (docs/conformance.md)."""
_FIRST_HALF = "Ephemeral|Snapshot|volume-expand|group"
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
    yield "classes", make_classes
    yield "the tests' images are there", _load_images
    yield "Kubernetes' own storage tests have passed", lambda bed: _run(bed, tell)


def _run(bed: Bed, tell: Callable[[str], None]) -> None:
    halves = [
        _started(bed, "first", _FIRST_HALF, SKIPPED),
        _started(bed, "second", "", (*SKIPPED, _FIRST_HALF)),
    ]
    try:
        for half in halves:
            half.wait(_LIMIT_S)
    finally:
        for half in halves:
            half.kill()
    outcomes = [_outcome(bed.directory / f"{name}.json") for name in ("first", "second")]
    failed = [name for outcome in outcomes for name in outcome.failed]
    tell(f"{sum(len(outcome.passed) for outcome in outcomes)} passed, {len(failed)} failed")
    assert not failed, "\n".join(failed)


def _started(bed: Bed, name: str, focus: str, skip: tuple[str, ...]) -> subprocess.Popen[bytes]:
    command = [
        *_command(bed),
        f"-ginkgo.focus=External.Storage.*({focus})",
        f"-ginkgo.skip={'|'.join(skip)}",
        f"-ginkgo.json-report={bed.directory / f'{name}.json'}",
        f"-ginkgo.timeout={_LIMIT_S}s",
    ]
    with (bed.directory / "logs" / f"storage-{name}.log").open("wb") as log:
        return subprocess.Popen(command, env=_environment(bed), stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _command(bed: Bed) -> list[str]:
    return [
        str(programs.home() / "e2e.test"),
        "--provider=skeleton",
        f"--kubectl-path={programs.home() / 'kubectl'}",
        f"--kubeconfig={bed.plane.kubeconfig('admin')}",
        f"-storage.testdriver={TEST_DRIVER}",
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
        [*_command(bed), "--list-images"], env=_environment(bed), capture_output=True, text=True, check=True
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
