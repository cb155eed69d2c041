"""What must hold after each step, whatever happened in it."""

from csi_driver.ceph.api import ImageMissing
from csi_driver.ids import Handle
from csi_driver.journal.entries import SnapshotEntry, VolumeEntry
from csi_driver.journal.flatten_queue import FlattenQueue
from csi_driver.journal.journal import snapshot_journal, volume_journal
from csi_driver.journal.layout import State
from tests.simulation.model import Content, KnownSnapshot, KnownVolume, Life, Model, fits
from tests.simulation.process import INSTANCE
from tests.simulation.world import World


class Broken(AssertionError):
    """A rule of the driver does not hold."""


def check(condition: object, what: str) -> None:
    if not condition:
        raise Broken(what)


class Invariants:
    """Looks into the pool through the driver's own journal, and past the driver at the data."""

    def __init__(self, world: World, model: Model) -> None:
        self._world = world
        self._model = model
        self._volumes = volume_journal(world.pool, INSTANCE)
        self._snapshots = snapshot_journal(world.pool, INSTANCE)
        self._queue = FlattenQueue(world.pool, INSTANCE)
        self._keys: dict[str, str] = {}
        """Those that volumes were handed out with, by handle, and by those of their snapshots."""

    def hold(self, *, is_explained: bool = True) -> None:
        """is_explained: nothing stands in the pool that no entry tells of. Raises Broken."""
        for volume in self._model.volumes.values():
            if volume.life is Life.LIVE:
                self._volume(volume)
                self._key(volume.handle, volume.handle)
                self._key_of_source(volume)
        for snapshot in self._model.snapshots.values():
            if snapshot.life is Life.LIVE:
                self._snapshot(snapshot)
                self._key(snapshot.handle, snapshot.source_handle)
        strange = self._world.unexplained() if is_explained else []
        check(not strange, f"the journal does not explain {strange}")

    def _key(self, handle: str, kept_for: str) -> None:
        """As long as it lives, and always the same."""
        if self._world.kms is None:
            return
        key = self._world.kms.keys.get(kept_for, "")
        check(key, f"the key of {handle} is gone")
        check(self._keys.setdefault(handle, key) == key, f"the key of {handle} is another one")

    def _key_of_source(self, volume: KnownVolume) -> None:
        its_source = self._keys.get(volume.source_handle, "")
        own = self._keys.get(volume.handle, "")
        check(its_source in ("", own), f"{volume.spec.name} has {own}, and what it is a copy of {its_source}")

    def volume_entry(self, handle: str) -> VolumeEntry:
        entry = self._volumes.load(uuid_of(handle))
        if entry is None or entry.state is not State.COMPLETE:
            raise Broken(f"volume {handle} was answered, and is {entry.state if entry else 'gone'}")
        return entry

    def snapshot_entry(self, handle: str) -> SnapshotEntry:
        entry = self._snapshots.load(uuid_of(handle))
        if entry is None or entry.state is not State.COMPLETE:
            raise Broken(f"snapshot {handle} was answered, and is {entry.state if entry else 'gone'}")
        return entry

    def content_of(self, volume: KnownVolume) -> Content | None:
        """None while a flatten that was cut short keeps it from being opened."""
        return self._content(self.volume_entry(volume.handle))

    def _content(self, entry: VolumeEntry) -> Content | None:
        try:
            info = self._world.pool.images.inspect(entry.image_name)
        except ImageMissing:
            check(self._queue.holds_up(entry.image_id), f"volume {entry.uuid} cannot be opened")
            return None
        check(info.image_id == entry.image_id, f"volume {entry.uuid} has another image")
        return self._world.read(entry.image_name)

    def content_of_snapshot(self, snapshot: KnownSnapshot) -> Content | None:
        entry = self.snapshot_entry(snapshot.handle)
        try:
            snap = self._world.pool.images.get_snap(entry.source_image, entry.snap_name)
        except ImageMissing:
            check(self._queue.holds_up(entry.source_image_id), f"snapshot {snapshot.handle} has no snap")
            return None
        check(snap.snap_id == entry.snap_id, f"snapshot {snapshot.handle} has another snap")
        check(
            snap.size_bytes == entry.size_bytes, f"snapshot {snapshot.handle}: {snap} is not {entry.size_bytes} bytes"
        )
        return self._world.read(entry.source_image, entry.snap_name)

    def _volume(self, volume: KnownVolume) -> None:
        entry = self.volume_entry(volume.handle)
        content = self._content(entry)
        if content is None:
            return
        check(fits(content, volume.content), f"{volume.spec.name} reads {content} and not {volume.content}")
        size_bytes = len(content) * self._world.block_bytes
        check(size_bytes in volume.sizes_bytes, f"{volume.spec.name}: {size_bytes} is none of {volume.sizes_bytes}")
        is_known = len(volume.sizes_bytes) == 1
        check(
            entry.size_bytes == size_bytes or not is_known,
            f"{volume.spec.name} has {size_bytes} bytes, recorded are {entry.size_bytes}",
        )
        depth = self._world.pool.ancestry.count(entry.image_id)
        check(depth <= (entry.depth or 0), f"{volume.spec.name} has {depth} ancestors, recorded are {entry.depth}")
        check(depth < volume.spec.flatten.hard_depth, f"{volume.spec.name} was handed out with {depth} ancestors")

    def _snapshot(self, snapshot: KnownSnapshot) -> None:
        content = self.content_of_snapshot(snapshot)
        check(content in (None, snapshot.content), f"{snapshot.spec.name} reads {content} and not {snapshot.content}")


def uuid_of(handle: str) -> str:
    parsed = Handle.parse(handle)
    check(parsed, f"{handle!r} is no handle")
    assert parsed
    return parsed.uuid
