"""The cluster under the driver, as the history and its checks see it: in memory here, in real_world.py a real one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from csi_driver.ceph.api import Clusters, Pool
from csi_driver.journal.flatten_queue import FlattenQueue
from csi_driver.operations.site import PoolKey
from tests.memory_ceph import BLOCK, Client, MemoryCeph, MemoryClusters
from tests.memory_ceph.seam import Link
from tests.simulation.kms import MemoryKms
from tests.simulation.model import Content
from tests.simulation.virtual import Clock

AtPoint = Callable[[str, Link], None]


class Machine(Protocol):
    """Where one process of the driver runs."""

    @property
    def clusters(self) -> Clusters: ...

    @contextmanager
    def interrupted(self, at_point: AtPoint) -> Iterator[None]:
        """`at_point` is called at each point of the calls made meanwhile, with the call's connection."""

    def die(self) -> None:
        """The process is gone, and all of its connections."""


class World(Protocol):
    """One pool of one cluster. Blocks are of `block_bytes`."""

    block_bytes: int

    @property
    def kms(self) -> MemoryKms | None:
        """Who keeps the keys of all volumes; None: they are not encrypted."""

    @property
    def key(self) -> PoolKey: ...

    @property
    def pool(self) -> Pool:
        """The pool through a connection that is nobody's of the driver."""

    def machine(self) -> Machine: ...

    def write(self, image: str, block: int, value: int) -> None: ...

    def read(self, image: str, snap: str = "") -> Content: ...

    def attach(self, image: str) -> None:
        """A client opens an image for writing."""

    def detach(self, image: str) -> None: ...

    def wait(self, seconds: float) -> None: ...

    def leftovers(self) -> list[str]:
        """What volumes and snapshots have left in the pool."""

    def unexplained(self) -> list[str]:
        """Images, snaps and objects that no entry of the journal explains."""


class MemoryMachine:
    """`Machine` of one client of the in-memory cluster."""

    def __init__(self, ceph: MemoryCeph) -> None:
        self.client = Client()
        self.clusters: Clusters = MemoryClusters(ceph, self.client)

    @contextmanager
    def interrupted(self, at_point: AtPoint) -> Iterator[None]:
        before = self.client.at_point
        self.client.at_point = at_point
        try:
            yield
        finally:
            self.client.at_point = before

    def die(self) -> None:
        self.client.is_dead = True


class MemoryWorld:
    """`World` in memory."""

    block_bytes = BLOCK

    def __init__(
        self, clock: Clock, *, clones_format_2: bool = True, saved: bytes = b"", kms: MemoryKms | None = None
    ) -> None:
        """`saved`: what stands in the cluster from the beginning, as `MemoryCeph.save` has it."""
        self.kms = kms
        self.key = PoolKey("dev", None, 2)
        self._clock = clock
        self.ceph = MemoryCeph(clones_format_2=clones_format_2, now=clock.time)
        if saved:
            self.ceph.restore(saved)
        self.place = self.ceph.place(2)
        looking = MemoryClusters(self.ceph, Client())
        with looking.connect("dev", None) as cluster, cluster.pool(2) as pool:
            self.pool: Pool = pool

    def machine(self) -> MemoryMachine:
        return MemoryMachine(self.ceph)

    def write(self, image: str, block: int, value: int) -> None:
        self.ceph.images.by_id[self.place.names[image]].data[block] = value

    def read(self, image: str, snap: str = "") -> Content:
        opened = self.ceph.images.by_id[self.place.names[image]]
        return self.ceph.images.content(opened, opened.find_snap(snap) if snap else opened)

    def attach(self, image: str) -> None:
        self.ceph.images.by_id[self.place.names[image]].watches[f"client of {image}"] = float("inf")

    def detach(self, image: str) -> None:
        del self.ceph.images.by_id[self.place.names[image]].watches[f"client of {image}"]

    def wait(self, seconds: float) -> None:
        self._clock.sleep(seconds)

    def strangers(self) -> dict[str, str]:
        """Images that are no driver's, by id: wherever they are, they stay."""
        named = [*self.place.trash.items(), *((image_id, name) for name, image_id in self.place.names.items())]
        return {image_id: name for image_id, name in named if not name.startswith("csi-")}

    def leftovers(self) -> list[str]:
        place, strangers = self.place, self.strangers()
        found = [f"image {name}" for name, image_id in place.names.items() if image_id not in strangers]
        deleted = (*place.trash.items(), *place.removing.items())
        found += [f"trash {image_id} {name}" for image_id, name in deleted if image_id not in strangers]
        found += [f"header {image_id}" for image_id in self.ceph.images.by_id if image_id not in strangers]
        found += [f"group {name}" for name in place.groups]
        for name, keys in place.objects.items():
            if name.startswith(("csi.volume.", "csi.snap.", "rbd_")):
                found.append(f"object {name}")
            if name.startswith(("csi.volumes.", "csi.snaps.", "csi.groups.", "csi.flatten.")):
                found += [f"key {name} {key}" for key in keys]
        return found + [f"key of {handle}" for handle in (self.kms.keys if self.kms else ())]

    def unexplained(self) -> list[str]:
        objects = self.place.objects
        entries = {name.rpartition(".")[2] for name in objects if name.startswith(("csi.volume.", "csi.snap."))}
        noted = {
            text.removeprefix("deleted.")
            for directory in ("csi.volumes.default", "csi.snaps.default")
            for pair in objects.get(directory, {}).items()
            for text in pair
        }
        keys = objects.get("csi.volumes.default", {})
        begun = {uuid for key, uuid in keys.items() if key.startswith("csi.volume.") and f"making.{uuid}" in keys}
        named = {**self.place.names, **{name: image_id for image_id, name in self.place.trash.items()}}
        named |= {name: image_id for image_id, name in self.place.removing.items()}
        found = [f"entry {uuid}" for uuid in entries - noted]
        kept = self.kms.keys if self.kms else {}
        found += [f"key of {handle}" for handle in kept if handle[-_UUID:] not in entries | begun]
        strangers = self.strangers()
        found += [
            f"image {name}"
            for name, one in named.items()
            if name[-_UUID:] not in entries | begun and one not in strangers
        ]
        found += [f"header {image_id}" for image_id in self.ceph.images.by_id.keys() - set(named.values())]
        found += [f"lesser size of {image_id}" for image_id, image in self.ceph.images.by_id.items() if image.is_cut]
        queued = {entry.image_id for entry in FlattenQueue(self.pool, "default").entries()}
        found += [
            f"snap {image_id}@{snap.name}"
            for image_id, image in self.ceph.images.by_id.items()
            for snap in image.snaps.values()
            if snap.name[-_UUID:] not in entries and not snap.original_name and not (snap.is_pin and image_id in queued)
        ]
        return found


_UUID = 36
