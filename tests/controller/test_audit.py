"""`rbd-csi audit` and `rbd-csi repair`: every class of leftover is found among good volumes, nothing else, and mended."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from csi_driver.ceph.api import Pool
from csi_driver.dev.inventory import Place, inventory
from csi_driver.dev.layout import DevCeph
from csi_driver.operations.audit.findings import ABOUT, FindingClass
from tests.controller.calls import Calls
from tests.controller.good_volumes import GoodVolumes
from tests.controller.keeping import await_that
from tests.controller.planting import Planter

T = TypeVar("T")

pytestmark = pytest.mark.usefixtures("empty_pool")

VOLUMES = int(os.environ.get("AUDITED_VOLUMES", "40"))
"""Good ones."""
LEFTOVERS_OF_EACH = int(os.environ.get("LEFTOVERS_OF_EACH", "2"))
"""Of each class."""
_ENDED_S = 1200


def rbd_csi(ceph: DevCeph, *command: str, cluster: str = "dev") -> "subprocess.CompletedProcess[str]":
    scope = ("--clusters", str(ceph.config_json), "--cluster", cluster, "--pool", "rbd", "--settle", "0.2")
    return subprocess.run(
        [sys.executable, "-m", "csi_driver", *command, *scope],
        capture_output=True,
        text=True,
        timeout=_ENDED_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def audit(ceph: DevCeph, *flags: str) -> dict[str, list[str]]:
    """Names by class."""
    ended = rbd_csi(ceph, "audit", "--format", "json", *flags)
    found: dict[str, list[str]] = {}
    for one in json.loads(ended.stdout):
        found.setdefault(one["class"], []).append(one["name"])
    found = {what: sorted(names) for what, names in found.items()}
    assert ended.returncode == (1 if found else 0), ended.stderr
    return found


def test_every_class_of_leftover_is_found_and_mended_among_good_volumes(
    ceph_dev: DevCeph, calls: Calls, pool: Pool
) -> None:
    """In two steps: what the journal explains by itself, the rest when it is named. Nothing else is touched."""
    good = GoodVolumes(ceph_dev, pool, calls)
    good.make(VOLUMES)
    before, inventory_before = good.state(), inventory(ceph_dev, Place("rbd"))

    planter = Planter(ceph_dev, pool, calls, good.plain[2:])
    planter.plant(LEFTOVERS_OF_EACH)
    planted = {what: sorted(names) for what, names in planter.planted.items()}
    assert set(planted) == set(FindingClass)
    assert timed("audit", lambda: audit(ceph_dev)) == planted

    assert rbd_csi(ceph_dev, "repair").returncode == 130  # nobody says yes
    left = {what for what in FindingClass if ABOUT[what].is_named_only or not ABOUT[what].remedy}
    mended = sum(len(names) for what, names in planted.items() if what not in left)
    by_itself = timed("repair", lambda: rbd_csi(ceph_dev, "repair", "--yes"))
    assert f"\n{mended} mended" in by_itself.stdout, by_itself.stderr
    named = [word for what in left for name in planted[what] for word in ("--name", name)]
    when_named = timed("repair of what is named", lambda: rbd_csi(ceph_dev, "repair", "--yes", *named))
    unmended = {what for what in FindingClass if not ABOUT[what].remedy}
    remain = sum(len(planted[what]) for what in unmended)
    mended = sum(len(planted[what]) for what in left) - remain
    assert f"\n{mended} mended, {remain} left" in when_named.stdout, when_named.stderr
    assert audit(ceph_dev) == {what: planted[what] for what in unmended}
    assert {"unreadable-entry", "missing-image", "missing-key", "member-without-group"} == unmended

    planter.clear()
    await_that(
        lambda: inventory(ceph_dev, Place("rbd")) == inventory_before, "an inventory as before", within_s=_ENDED_S
    )
    assert good.state() == before
    assert audit(ceph_dev) == {}
    good.repeat()
    good.delete()


def timed(what: str, call: Callable[[], T]) -> T:
    from_s = time.monotonic()
    result = call()
    seconds, each = time.monotonic() - from_s, LEFTOVERS_OF_EACH
    print(f"\n{what}: {seconds:.1f} s, {VOLUMES} good volumes, {each} leftovers of each class")  # noqa: T201
    return result


def test_an_unknown_class_and_an_unknown_pool_are_told_with_what_is_known(ceph_dev: DevCeph) -> None:
    ended = rbd_csi(ceph_dev, "repair", "--only", "nonsense")
    assert ended.returncode == 2
    assert "nonsense" in ended.stderr
    assert "name-without-entry" in ended.stderr
    ended = rbd_csi(ceph_dev, "audit", cluster="nowhere")
    assert ended.returncode == 2
    assert "nowhere" in ended.stderr
