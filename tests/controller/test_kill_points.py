"""Two drivers are killed at one fail point after another while callers create, grow, cut, copy and delete through both.

Every caller repeats until it is answered, as a sidecar does. In the end the pool holds what was answered and not deleted,
and nothing else, and the audit finds nothing. With KILLS=500 (`make soak`) each point is met many times.
"""

import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from csi_driver.dev.inventory import Place, inventory, trim
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests import image_data, kills
from tests.client import Refusal
from tests.controller.calls import UNFINISHED, Calls
from tests.controller.test_audit import audit
from tests.kill_points import POINTS, Killer
from tests.warm_driver import DyingDriver

Made = TypeVar("Made", pb.Volume, pb.Snapshot, int)

KILLS = 40
MIB = 1 << 20
DATA = b"original"
_CALLERS = 3
_PAUSE_S = 0.05
_VOLUME_FIRST = 0.7
_OBJECTS_OF_AN_IMAGE = ("rbd_header.{}", "rbd_object_map.{}")


@dataclass
class Model:
    """What was answered and not deleted since: what the pool has to hold."""

    volumes: dict[str, pb.Volume] = field(default_factory=dict)
    snapshots: dict[str, pb.Snapshot] = field(default_factory=dict)

    def lines(self, ceph: DevCeph) -> frozenset[str]:
        """As the inventory has them."""
        lines = set[str]()
        for name, volume in self.volumes.items():
            uuid = volume.volume_id[-36:]
            lines |= {f"image csi-vol-{uuid}", f"object rbd_id.csi-vol-{uuid}", f"object csi.volume.{uuid}"}
            lines |= {f"key csi.volumes.default csi.volume.{name}"}
            image_id = json.loads(ceph.rbd("info", f"rbd/csi-vol-{uuid}", "--format", "json"))["id"]
            lines |= {f"object {form.format(image_id)}" for form in _OBJECTS_OF_AN_IMAGE}
            if name.startswith("v-"):  # the others are copies, of which nothing was written
                lines |= {f"object rbd_data.{image_id}.0000000000000000"}
            snaps = json.loads(ceph.rbd("snap", "ls", "--all", f"rbd/csi-vol-{uuid}", "--format", "json"))
            lines |= {f"object rbd_object_map.{image_id}.{snap['id']:016x}" for snap in snaps}
        for name, snapshot in self.snapshots.items():
            uuid = snapshot.snapshot_id[-36:]
            lines |= {f"object csi.snap.{uuid}", f"key csi.snaps.default csi.snap.{name}"}
        return frozenset(lines)


class Caller:
    """Makes each call through the drivers in turn until it is answered."""

    def __init__(self, ceph: DevCeph, replicas: tuple[Calls, ...], name: str) -> None:
        self._ceph = ceph
        self._turns: Iterator[Calls] = itertools.cycle(replicas)
        self._name = name
        self._chance = random.Random(name)
        self.model = Model()

    def make(self) -> None:
        """A volume, grown; its snapshot, a copy of that, and a copy of the copy."""
        volume = self._create("v")
        image_data.write(self._ceph, volume.volume_context["imageName"], DATA)
        grown = self._repeated(lambda calls: calls.expand(volume.volume_id, 12 * MIB))
        assert grown == 12 * MIB
        name = f"s-{self._name}"
        snapshot = self._repeated(lambda calls: calls.try_snapshot(name, volume.volume_id))
        self.model.snapshots[name] = snapshot
        restored = self._create("r", 16 * MIB, source=snapshot)
        clone = self._create("c", 0, source=restored)
        assert (restored.capacity_bytes, clone.capacity_bytes) == (16 * MIB, 16 * MIB)

    def check(self) -> None:
        for volume in self.model.volumes.values():
            assert image_data.read(self._ceph, volume.volume_context["imageName"], len(DATA)) == DATA

    def delete(self) -> None:
        """In some order; the volume is mostly the first, which leaves a tombstone."""
        doomed = [*self.model.volumes, *self.model.snapshots]
        self._chance.shuffle(doomed)
        if self._chance.random() < _VOLUME_FIRST:
            doomed.sort(key=lambda name: name != f"v-{self._name}")
        for name in doomed:
            if name in self.model.volumes:
                self._delete(name)
            else:
                self._delete_snapshot(name)
        assert not self.model.volumes
        assert not self.model.snapshots

    def _create(self, kind: str, size_bytes: int = 8 * MIB, source: pb.Volume | pb.Snapshot | None = None) -> pb.Volume:
        name = f"{kind}-{self._name}"
        labels = {"csi.storage.k8s.io/pv/name": name}
        volume = self._repeated(lambda calls: calls.try_create(name, size_bytes, source=source, parameters=labels))
        self.model.volumes[name] = volume
        return volume

    def _delete(self, name: str) -> None:
        volume = self.model.volumes.pop(name)
        self._ended(lambda calls: calls.delete(volume.volume_id))

    def _delete_snapshot(self, name: str) -> None:
        snapshot = self.model.snapshots.pop(name)
        self._ended(lambda calls: calls.delete_snapshot(snapshot.snapshot_id))

    def _repeated(self, call: Callable[[Calls], Made | Refusal]) -> Made:
        while isinstance(answer := call(next(self._turns)), Refusal):
            self._wait_after(answer)
        return answer

    def _ended(self, call: Callable[[Calls], Refusal | None]) -> None:
        while answer := call(next(self._turns)):
            self._wait_after(answer)

    def _wait_after(self, answer: Refusal) -> None:
        assert answer.code in UNFINISHED, answer
        time.sleep(_PAUSE_S)  # a sidecar waits longer


@pytest.fixture
def replicas(ceph_dev: DevCeph) -> Iterator[tuple[DyingDriver, ...]]:
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(DyingDriver.start("--controller", clusters=ceph_dev.config_json, node_id=node))
            for node in ("node-1", "node-2")
        )


@pytest.mark.timeout(kills.timeout_s(KILLS))
def test_kills_at_fail_points_lose_nothing_and_leave_nothing(
    ceph_dev: DevCeph, replicas: tuple[DyingDriver, ...]
) -> None:
    killer = Killer(replicas, kills.chance(), kills.kills(KILLS))
    calls = tuple(Calls(driver.rpc, ceph_dev.secrets("provisioner")) for driver in replicas)
    callers = [Caller(ceph_dev, calls, str(number)) for number in range(_CALLERS)]
    began = time.monotonic()
    run_under_kills(killer, callers)
    print(f"{killer.table()} kills in {time.monotonic() - began:.1f} s")  # noqa: T201 - the test's report
    assert sum(killer.hit[point] > 0 for point in POINTS) >= min(len(POINTS), killer.wanted)
    await_inventory_of(ceph_dev, [caller.model for caller in callers])
    assert audit(ceph_dev) == {}
    for caller in callers:
        caller.check()
        caller.delete()
    await_inventory_of(ceph_dev, [])


def run_under_kills(killer: Killer, callers: list[Caller]) -> None:
    """Returns when the kills are over and each caller has made its last things, which it keeps."""

    def go_on(number: int, ended: threading.Event) -> None:
        caller = callers[number]
        try:
            caller.make()
            while not ended.is_set():
                caller.check()
                caller.delete()
                caller.make()
        except BaseException:
            killer.give_up()
            raise

    with kills.callers(len(callers), go_on):
        killer.run()


def await_inventory_of(ceph: DevCeph, models: list[Model]) -> None:
    """Once the purges have come to their end."""
    expected = frozenset[str]().union(*(model.lines(ceph) for model in models))
    deadline = time.monotonic() + kills.ENDS_WITHIN_S
    while (found := inventory(ceph, Place("rbd"))) != expected:
        assert time.monotonic() < deadline, {"unexpected": found - expected, "missing": expected - found}
        trim(ceph, found - expected)
        time.sleep(1)
