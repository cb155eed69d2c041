"""A driver process as the histories see it: operations by their names, which are calls over its socket."""

import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import grpc

from csi_driver.ceph.api import Clusters, Pool
from csi_driver.errors import DriverError, InUse, NoSpace, NotFound, OutOfRange, Unfinished
from csi_driver.ids import Handle
from csi_driver.journal.flatten_queue import FlattenQueue
from csi_driver.model import CapacityRange, SnapshotSpec, SourceKind, VolumeSpec
from csi_driver.pb import csi_pb2 as pb
from tests.client import refusal_of
from tests.driver import DriverProcess
from tests.rpc.valid_requests import mounted
from tests.simulation.process import INSTANCE
from tests.simulation.world import AtPoint

_MEANT: Mapping[grpc.StatusCode, type[DriverError]] = {
    grpc.StatusCode.ABORTED: Unfinished,
    grpc.StatusCode.UNAVAILABLE: Unfinished,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.RESOURCE_EXHAUSTED: NoSpace,
    grpc.StatusCode.FAILED_PRECONDITION: InUse,
}
"""Any other answer fails the history."""

POINTS = (
    *("journal.claim", "journal.begin", "journal.begin_complete", "journal.complete", "journal.mark_deleting"),
    *("journal.mark_tombstone", "journal.mark_shrunk", "journal.mark_purging", "journal.release_name"),
    *("journal.claim_resize", "journal.record_size", "journal.record_depth"),
    *("journal.forget_deleted", "journal.forget"),
    *("images.create", "images.clone", "images.cut", "images.grow", "images.remove_snap", "images.move_to_trash"),
    *("images.remove", "images.purge", "images.shrink", "images.flatten", "queue.add", "queue.remove"),
)
_ARMED = 0.6
"""Of the starts: with a fail point."""
_LATEST_HIT = 4
_A_MOMENT_S = 0.3
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Answer:
    handle: str
    size_bytes: int


class Replica:
    """One driver process, with the operations of `tests.simulation.process.Process`, and its own `Machine`.

    `turn` is held by whoever works with the model, and given away during a call: so two calls run at once and what is
    known stays in order. is_calm: no more fail points.
    """

    clusters: Clusters

    def __init__(
        self, driver: DriverProcess, secrets: Mapping[str, str], pool: Pool, chance: random.Random, turn: threading.Lock
    ) -> None:
        self._driver = driver
        self._secrets = secrets
        self._pool = pool
        self._chance = chance
        self._turn = turn
        self._armed = "an idle moment"
        self.is_calm = False
        self.deaths = Counter[str]()
        self.creation = SimpleNamespace(create=self._create)
        self.deletion = SimpleNamespace(delete=self._delete)
        self.expansion = SimpleNamespace(expand=self._expand)
        self.snapshot_creation = SimpleNamespace(create=self._snapshot)
        self.snapshot_deletion = SimpleNamespace(delete=self._delete_snapshot)

    # ── its life ──

    def revive(self) -> None:
        """Start it again if it has died of its fail point, or of a crash."""
        if self._driver.has_died():
            code = self._driver.died_with
            self.deaths[self._armed if code == -signal.SIGKILL else f"exit code {code}"] += 1
            self._start()

    def die(self) -> None:
        """By SIGKILL, wherever it is; and start again."""
        self.deaths["any moment"] += 1
        self._driver.kill()
        self._start()

    def _start(self) -> None:
        environment = {}
        if not self.is_calm and self._chance.random() < _ARMED:
            place, hit = self._chance.choice(("before", "after")), self._chance.randint(1, _LATEST_HIT)
            self._armed = f"{self._chance.choice(POINTS)}:{place}"
            environment = {"RBD_CSI_FAILPOINTS": f"{self._armed}:{hit}=kill"}
        self._driver.restart(environment, ready_within_s=120)

    @contextmanager
    def interrupted(self, at_point: AtPoint) -> Iterator[None]:
        raise NotImplementedError("nobody is let into a process of its own")

    # ── what goes on behind the answers, and is given a moment ──

    def sweep(self) -> None:
        """A process that was started looks at a pool with the first call that may change something there."""
        nobody = Handle("dev", self._pool.pool_id, str(uuid.UUID(int=0)))
        try:
            self._expand(str(nobody), CapacityRange(1), 1, None)
        except (NotFound, Unfinished):
            self._until(lambda: not self._pool.images.list_trash())

    def flatten(self) -> None:
        queue = FlattenQueue(self._pool, INSTANCE)
        self._until(lambda: not queue.entries())

    @staticmethod
    def _until(is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _A_MOMENT_S
        while time.monotonic() < deadline and not is_so():
            time.sleep(0.02)

    # ── calls ──

    def _call(self, rpc: Callable[..., Any], request: object) -> Any:
        self._turn.release()
        try:
            return rpc(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            refusal = refusal_of(error)
        finally:
            self._turn.acquire()
        assert refusal.code in _MEANT, f"{request}: {refusal}\n{self._driver.log_tail()}"
        raise _MEANT[refusal.code](refusal.message)

    def _create(self, spec: VolumeSpec, _credentials: None) -> Answer:
        request = pb.CreateVolumeRequest(
            name=spec.name,
            capacity_range=pb.CapacityRange(required_bytes=spec.size_bytes),
            volume_capabilities=[mounted()],
            parameters={
                "clusterID": spec.cluster_id,
                "pool": spec.pool,
                "imageFeatures": ",".join(spec.layout.features),
                "flatten": spec.flatten.mode,
                "softCloneDepth": str(spec.flatten.soft_depth),
                "hardCloneDepth": str(spec.flatten.hard_depth),
            },
            secrets=self._secrets,
        )
        if spec.source and spec.source.kind is SourceKind.SNAPSHOT:
            request.volume_content_source.snapshot.snapshot_id = spec.source.handle
        elif spec.source:
            request.volume_content_source.volume.volume_id = spec.source.handle
        volume = self._call(self._driver.rpc.controller.CreateVolume, request).volume
        return Answer(volume.volume_id, volume.capacity_bytes)

    def _delete(self, handle: str, _credentials: None) -> None:
        request = pb.DeleteVolumeRequest(volume_id=handle, secrets=self._secrets)
        self._call(self._driver.rpc.controller.DeleteVolume, request)

    def _expand(self, handle: str, capacity: CapacityRange, _size_bytes: int, _credentials: None) -> int:
        request = pb.ControllerExpandVolumeRequest(volume_id=handle, secrets=self._secrets)
        request.capacity_range.required_bytes = capacity.required_bytes
        present: int = self._call(self._driver.rpc.controller.ControllerExpandVolume, request).capacity_bytes
        return present

    def _snapshot(self, spec: SnapshotSpec, _credentials: None) -> Answer:
        request = pb.CreateSnapshotRequest(name=spec.name, source_volume_id=spec.source_handle, secrets=self._secrets)
        snapshot = self._call(self._driver.rpc.controller.CreateSnapshot, request).snapshot
        return Answer(snapshot.snapshot_id, snapshot.size_bytes)

    def _delete_snapshot(self, handle: str, _credentials: None) -> None:
        request = pb.DeleteSnapshotRequest(snapshot_id=handle, secrets=self._secrets)
        self._call(self._driver.rpc.controller.DeleteSnapshot, request)
