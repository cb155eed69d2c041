"""Many good volumes, made quickly through the driver: plain ones, sources with snapshots, restores and clones, groups."""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import rados
import rbd

from csi_driver.ceph.api import Pool
from csi_driver.dev.layout import DevCeph
from csi_driver.journal.layout import GROUPS, SNAPSHOTS, VOLUMES
from csi_driver.pb import csi_pb2 as pb
from tests.controller.calls import Calls
from tests.controller.group_calls import delete_group_until_done, group_until_done
from tests.controller.planting import MIB, image_named, uuid_of

T = TypeVar("T")

_THREADS = 32
_SIZE = 4 * MIB
_FAMILY = 3
"""Volumes with data: a source, a restore of its snapshot, and a clone of it."""


def at_once(calls: Iterable[Callable[[], T]]) -> list[T]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return [one.result() for one in [pool.submit(call) for call in calls]]


@dataclass
class GoodVolumes:
    """So many volumes, every twentieth the source of a family; and a group snapshot for every hundred."""

    ceph: DevCeph
    pool: Pool
    calls: Calls
    plain: list[pb.Volume] = field(default_factory=list)
    with_data: list[pb.Volume] = field(default_factory=list)
    snapshots: list[pb.Snapshot] = field(default_factory=list)
    groups: list[pb.VolumeGroupSnapshot] = field(default_factory=list)

    def make(self, count: int) -> None:
        calls, families = self.calls, max(1, count // 20)
        sources = at_once(partial(calls.create, f"source-{n}", _SIZE) for n in range(families))
        with rados.Rados(conffile=str(self.ceph.conf)) as cluster, cluster.open_ioctx("rbd") as ioctx:
            for number, source in enumerate(sources):
                with rbd.Image(ioctx, image_named(source)) as image:
                    image.write(f"data of {number} ".encode() * 4096, 0)
        made = enumerate(sources)
        self.snapshots = at_once(partial(calls.snapshot_until_done, f"kept-{n}", one.volume_id) for n, one in made)
        copied: list[pb.Snapshot | pb.Volume] = [*self.snapshots, *sources]
        copies = at_once(partial(calls.create_until_done, f"copy-{n}", 0, source=one) for n, one in enumerate(copied))
        self.with_data = sources + copies
        rest = count - _FAMILY * families
        self.plain = at_once(partial(calls.create, f"plain-{n}", _SIZE) for n in range(rest))
        for number in range(max(1, count // 100)):
            members = self.plain[2 * number : 2 * number + 2]
            self.groups.append(group_until_done(calls, f"group-{number}", members))

    def state(self) -> dict[str, object]:
        """All of them: what the journal and the image say, and what they read."""
        found: dict[str, object] = {}
        for volume in (*self.plain, *self.with_data):
            found[volume.volume_id] = self.pool.objects.read(VOLUMES.object(uuid_of(volume.volume_id)))
            info = self.pool.images.inspect(image_named(volume))
            found[image_named(volume)] = (info.image_id, info.size_bytes, info.snaps, info.has_parent)
        for snapshot in self.snapshots:
            found[snapshot.snapshot_id] = self.pool.objects.read(SNAPSHOTS.object(uuid_of(snapshot.snapshot_id)))
        for group in self.groups:
            found[group.group_snapshot_id] = self.pool.objects.read(GROUPS.object(uuid_of(group.group_snapshot_id)))
        with rados.Rados(conffile=str(self.ceph.conf)) as cluster, cluster.open_ioctx("rbd") as ioctx:
            for volume in self.with_data:
                with rbd.Image(ioctx, image_named(volume), read_only=True) as image:
                    found[f"data of {volume.volume_id}"] = hashlib.sha256(image.read(0, _SIZE)).hexdigest()
        return found

    def repeat(self) -> None:
        """Every create again: each name is answered with the handle that it had."""
        calls, n = self.calls, len(self.snapshots)
        copied: list[pb.Snapshot | pb.Volume] = [*self.snapshots, *self.with_data[:n]]
        again = [partial(calls.create, f"source-{i}", _SIZE) for i in range(n)]
        again += [partial(calls.create, f"copy-{i}", 0, source=one) for i, one in enumerate(copied)]
        again += [partial(calls.create, f"plain-{i}", _SIZE) for i in range(len(self.plain))]
        known = [volume.volume_id for volume in (*self.with_data, *self.plain)]
        assert [volume.volume_id for volume in at_once(again)] == known
        sources = enumerate(self.with_data[:n])
        cut = at_once(partial(calls.snapshot, f"kept-{i}", one.volume_id) for i, one in sources)
        assert [one.snapshot_id for one in cut] == [one.snapshot_id for one in self.snapshots]

    def delete(self) -> None:
        for group in self.groups:
            delete_group_until_done(self.calls, group)
        at_once(partial(self.calls.delete_snapshot_until_done, one.snapshot_id) for one in self.snapshots)
        at_once(partial(self.calls.delete_until_done, one.volume_id) for one in (*self.plain, *self.with_data))
