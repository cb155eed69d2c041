"""The operations of one client: each as the driver does it and as bare calls, in turn, so that both meet the same load."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from csi_driver.pb import csi_pb2 as pb
from tests import image_data
from tests.bench.bed import Bed
from tests.bench.stats import Series
from tests.client import Refusal
from tests.image_client import ImageClient
from tests.rpc.valid_requests import GIB, mounted

Work = Callable[[int], object]

DEPTH = 8
_FULL_BYTES = 2 << 30
_WRITE_BYTES = 16 << 20
CHAIN = {"softCloneDepth": "16", "hardCloneDepth": "16"}


def measure(name: str, driver: Work, bare: Work | None, rounds: range) -> Series:
    """Alternating which of the two comes first."""
    series = Series(name)
    for number in rounds:
        turns = [(driver, series.driver), *([(bare, series.bare)] if bare else [])]
        for work, times in turns if number % 2 else reversed(turns):
            times.append(timed(work, number))
    return series


def timed(work: Work, number: int) -> float:
    """Milliseconds. A refusal is no answer that may be measured."""
    began = time.perf_counter()
    answer = work(number)
    milliseconds = (time.perf_counter() - began) * 1000
    assert not isinstance(answer, Refusal), answer
    return milliseconds


@dataclass
class SingleClient:
    """Every operation `rounds` times, on volumes of its own whose names begin with `prefix`."""

    bed: Bed
    rounds: int
    prefix: str = "one"
    _volumes: dict[int, pb.Volume] = field(default_factory=dict)
    _copies: list[pb.Volume] = field(default_factory=list)
    _snapshots: dict[int, pb.Snapshot] = field(default_factory=dict)

    def run(self) -> Iterator[Series]:
        calls, bare, rounds = self.bed.calls, self.bed.bare, range(self.rounds)
        self._create(-1)  # connections are made and the pool is entered before anything is measured
        bare.create(self._bare(-1))
        yield measure("create", self._create, lambda n: bare.create(self._bare(n)), rounds)
        yield measure("create again", self._create, lambda n: bare.create(self._bare(n) + "-again"), rounds)
        yield measure("expand", self._expand, lambda n: bare.expand(self._bare(n), 2 * GIB), rounds)
        yield from self._copying()
        self.bed.delete_all(self._copies)
        self.bed.settle(f"bare-copy-{self.prefix}-")
        yield measure("delete", self._delete, lambda n: bare.delete(self._bare(n)), rounds)
        yield measure("list a page of 500", self._list, None, range(min(self.rounds, 10)))
        yield measure("capacity", self._capacity, None, rounds)
        calls.delete_until_done(self._volumes.pop(-1).volume_id)
        self.bed.settle()

    def _copying(self) -> Iterator[Series]:
        bare, rounds, source = self.bed.bare, range(self.rounds), self._bare(0)
        yield measure("snapshot", self._snapshot, lambda n: bare.snapshot(source, f"snap-{n}"), rounds)
        restored = f"bare-copy-{self.prefix}-restored-"
        yield measure("restore", self._restore, lambda n: bare.restore(source, f"snap-{n}", f"{restored}{n}"), rounds)
        cloned = f"bare-copy-{self.prefix}-cloned-"
        yield measure("clone of a volume", self._clone, lambda n: bare.clone(self._bare(1), f"{cloned}{n}"), rounds)
        yield measure(
            "delete snapshot", self._delete_snapshot, lambda n: bare.delete_snapshot(source, f"snap-{n}"), rounds
        )

    def _bare(self, number: int) -> str:
        return f"bare-{self.prefix}-{number}"

    def _create(self, number: int) -> None:
        self._volumes[number] = self.bed.calls.create(f"{self.prefix}-{number}", GIB)

    def _expand(self, number: int) -> object:
        return self.bed.calls.expand(self._volumes[number].volume_id, 2 * GIB)

    def _snapshot(self, number: int) -> None:
        source = self._volumes[0].volume_id
        self._snapshots[number] = self.bed.calls.snapshot(f"{self.prefix}-snap-{number}", source)

    def _restore(self, number: int) -> None:
        name = f"{self.prefix}-restored-{number}"
        self._copies.append(self.bed.calls.create(name, 2 * GIB, source=self._snapshots[number]))

    def _clone(self, number: int) -> None:
        name = f"{self.prefix}-cloned-{number}"
        self._copies.append(self.bed.calls.create(name, 2 * GIB, source=self._volumes[1]))

    def _delete_snapshot(self, number: int) -> object:
        return self.bed.calls.delete_snapshot(self._snapshots[number].snapshot_id)

    def _delete(self, number: int) -> object:
        return self.bed.calls.delete(self._volumes.pop(number).volume_id)

    def _list(self, _number: int) -> object:
        return self.bed.driver.rpc.controller.ListVolumes(pb.ListVolumesRequest(max_entries=500), timeout=120)

    def _capacity(self, _number: int) -> object:
        request = pb.GetCapacityRequest(parameters=self.bed.calls.parameters)
        return self.bed.driver.rpc.controller.GetCapacity(request, timeout=120)


def written_by_a_client(bed: Bed, rounds: int) -> Iterator[Series]:
    """Snapshot and expand of a volume that a client writes to: the image's lock lies there, for the bare calls too."""
    volume = bed.calls.create("written", GIB)
    bed.bare.create("bare-written")
    snapshots: list[pb.Snapshot] = []

    def snapshot(number: int) -> None:
        snapshots.append(bed.calls.snapshot(f"written-{number}", volume.volume_id))

    with ImageClient(bed.ceph, f"csi-vol-{volume.volume_id[-36:]}"), ImageClient(bed.ceph, "bare-written"):
        yield measure(
            "snapshot, written to", snapshot, lambda n: bed.bare.snapshot("bare-written", f"snap-{n}"), range(rounds)
        )
        yield measure(
            "expand, written to",
            lambda n: bed.calls.expand(volume.volume_id, (n + 2) * GIB),
            lambda n: bed.bare.expand("bare-written", (n + 2) * GIB),
            range(rounds),
        )
    for one in snapshots:
        bed.calls.delete_snapshot_until_done(one.snapshot_id)
    bed.delete_all([volume])
    bed.settle()


def full_volumes(bed: Bed, rounds: int) -> Iterator[Series]:
    """A delete costs the same however much was written: its data go behind the answer. The bare one has an empty image."""
    volumes = [bed.calls.create(f"full-{number}", _FULL_BYTES) for number in range(rounds)]
    for number, volume in enumerate(volumes):
        bed.bare.create(f"bare-full-{number}")
        with image_data.opened(bed.ceph, f"csi-vol-{volume.volume_id[-36:]}") as image:
            for offset in range(0, _FULL_BYTES, _WRITE_BYTES):
                image.write(os.urandom(_WRITE_BYTES), offset)
    yield measure(
        "delete, 2 GiB written",
        lambda n: bed.calls.delete(volumes[n].volume_id),
        lambda n: bed.bare.delete(f"bare-full-{n}"),
        range(rounds),
    )
    bed.settle()


def chains(bed: Bed, rounds: int) -> Iterator[Series]:
    """Chains of copies, each of the one before; bare: one clone each, at the same depth."""
    made: list[pb.Volume] = []

    def chain(number: int) -> None:
        made.append(bed.calls.create(f"chain-{number}-0", GIB, parameters=CHAIN))
        for depth in range(DEPTH):
            name = f"chain-{number}-{depth + 1}"
            made.append(bed.calls.create(name, GIB, source=made[-1], parameters=CHAIN))

    def bare_chain(number: int) -> None:
        bed.bare.create(f"bare-chain-{number}-0")
        for depth in range(DEPTH):
            bed.bare.clone(f"bare-chain-{number}-{depth}", f"bare-chain-{number}-{depth + 1}")

    yield measure(f"chain of {DEPTH} clones", chain, bare_chain, range(rounds))
    bed.delete_all(reversed(made))
    bed.settle()


def lifecycles(bed: Bed, rounds: int) -> Iterator[Series]:
    """What a PVC with a snapshot and a restore asks of the controller, from its begin to its end."""

    def lifecycle(number: int) -> None:
        volume = bed.calls.create(f"life-{number}", GIB)
        snapshot = bed.calls.snapshot(f"life-{number}", volume.volume_id)
        copy = bed.calls.create(f"life-{number}-restored", GIB, source=snapshot)
        bed.calls.delete_until_done(volume.volume_id)
        bed.calls.delete_snapshot_until_done(snapshot.snapshot_id)
        bed.calls.delete_until_done(copy.volume_id)

    def bare_lifecycle(number: int) -> None:
        name = f"bare-life-{number}"
        bed.bare.create(name)
        bed.bare.snapshot(name, "snap")
        bed.bare.restore(name, "snap", f"{name}-restored")
        bed.bare.delete(name)
        bed.bare.delete(f"{name}-restored")

    yield measure("life of a PVC", lifecycle, bare_lifecycle, range(rounds))
    bed.settle()


def staging(bed: Bed, rounds: int) -> Iterator[Series]:
    """An empty volume attached in user space, formatted and mounted at a pod's path, and taken down again."""
    node, secrets = bed.node.rpc.node, bed.ceph.secrets("node")
    volumes = [bed.calls.create(f"staged-{number}", GIB) for number in range(rounds)]
    with TemporaryDirectory(prefix="rbd-csi-bench-") as scratch:

        def paths(number: int) -> tuple[str, str]:
            staging = Path(scratch) / f"staging-{number}"
            staging.mkdir(exist_ok=True)
            return str(staging), str(Path(scratch) / f"target-{number}")

        def bring(number: int) -> None:
            volume, (staging, target) = volumes[number], paths(number)
            node.NodeStageVolume(
                pb.NodeStageVolumeRequest(
                    volume_id=volume.volume_id,
                    volume_capability=mounted(),
                    staging_target_path=staging,
                    volume_context=volume.volume_context,
                    secrets=secrets,
                )
            )
            node.NodePublishVolume(
                pb.NodePublishVolumeRequest(
                    volume_id=volume.volume_id,
                    volume_capability=mounted(),
                    staging_target_path=staging,
                    target_path=target,
                )
            )

        def take_down(number: int) -> None:
            volume_id, (staging, target) = volumes[number].volume_id, paths(number)
            node.NodeUnpublishVolume(pb.NodeUnpublishVolumeRequest(volume_id=volume_id, target_path=target))
            node.NodeUnstageVolume(pb.NodeUnstageVolumeRequest(volume_id=volume_id, staging_target_path=staging))

        yield measure("stage and publish", bring, None, range(rounds))
        yield measure("unpublish and unstage", take_down, None, range(rounds))
    bed.delete_all(volumes)
    bed.settle()
