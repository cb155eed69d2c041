"""The calls of a history, and what their answers promise from then on."""

from collections.abc import Callable

from csi_driver.errors import DriverError, InUse, NoSpace, NotFound, OutOfRange, Unfinished
from csi_driver.model import CapacityRange
from tests.simulation import steps as do
from tests.simulation.invariants import Broken, Invariants, check
from tests.simulation.model import Known, KnownSnapshot, KnownVolume, Life, Model, fits
from tests.simulation.process import Process
from tests.simulation.world import World

MOST_BLOCKS = 8


class Calls:
    """Each is made on one process. Raises Broken for an answer that must not be, and whatever else the operation raises."""

    def __init__(self, world: World, model: Model, invariants: Invariants) -> None:
        self._world = world
        self._model = model
        self._invariants = invariants
        self.full: tuple[type[NoSpace], ...] = ()
        """What may be answered since a pool was said to be full, so that nothing of the call stays or it is repeated."""

        self.is_asked_for_elsewhere: Callable[[Known], bool] = lambda _known: False
        """Whether another call for it is under way: then a refusal is not the end, and it is asked for again."""

    @property
    def _unanswered(self) -> tuple[type[DriverError], ...]:
        return (Unfinished, *self.full)

    def create(self, known: KnownVolume, on: Process) -> None:
        source_lived = bool(self._model.live(known.source_handle))
        try:
            volume = on.creation.create(known.spec, None)
        except Unfinished:
            return
        except (NotFound, OutOfRange, NoSpace) as refusal:
            self._refused(known, refusal, source_lived)
            return
        if known.life is Life.LIVE:
            check(volume.handle == known.handle, f"{known.spec.name} was {known.handle} and is {volume.handle}")
            return
        known.handle = volume.handle
        content = self._invariants.content_of(known)
        check(content is not None, f"{known.spec.name} was answered and cannot be opened")
        assert content is not None
        check(
            any(fits(content, one) for one in known.acceptable),
            f"{known.spec.name} reads {content}, its source {known.acceptable}",
        )
        check(
            volume.size_bytes == len(content) * self._world.block_bytes,
            f"{known.spec.name} was answered with {volume.size_bytes} bytes and has {len(content)} blocks",
        )
        known.content, known.sizes_bytes, known.life = content, {volume.size_bytes}, Life.LIVE
        self._model.volumes[known.spec.name] = known  # another call for it may have been refused meanwhile

    def _refused(self, known: KnownVolume, refusal: Exception, source_lived: bool) -> None:
        """A final answer, and what alone may be its reason."""
        if known.life is Life.GONE:
            return  # the other process was refused meanwhile
        spec, source = known.spec, self._model.live(known.source_handle)
        if isinstance(refusal, NotFound):
            is_right = not source_lived or source is None
        elif isinstance(refusal, OutOfRange):
            is_right = isinstance(source, KnownVolume) and max(source.sizes_bytes) > spec.size_bytes > 0
        else:
            is_right = spec.flatten.mode == "never" or bool(self.full)
        if not is_right or known.life is not Life.PENDING:
            raise Broken(f"{spec.name} was refused") from refusal
        self._end(known)

    def _end(self, known: Known) -> None:
        if not self.is_asked_for_elsewhere(known):
            self._model.forget(known)

    def snapshot(self, known: KnownSnapshot, on: Process) -> None:
        source_lived = bool(self._model.live(known.source_handle))
        try:
            snapshot = on.snapshot_creation.create(known.spec, None)
        except Unfinished:
            return
        except NotFound as refusal:
            if source_lived and self._model.live(known.source_handle):
                raise Broken(f"{known.spec.name} was refused") from refusal
            self._end(known)
            return
        except self.full:
            self._end(known)
            return
        if known.life is Life.LIVE:
            check(snapshot.handle == known.handle, f"{known.spec.name} was {known.handle} and is {snapshot.handle}")
            return
        known.handle = snapshot.handle
        content = self._invariants.content_of_snapshot(known)
        check(
            content is not None and any(fits(content, one) for one in known.acceptable),
            f"{known.spec.name} reads {content}, its source {known.acceptable}",
        )
        known.content, known.life = content or (), Life.LIVE
        self._model.snapshots[known.spec.name] = known

    def write(self, volume: KnownVolume, action: do.Write) -> None:
        before = self._invariants.content_of(volume)
        if before is None:
            return
        block = action.block % len(before)
        self._world.write(self._invariants.volume_entry(volume.handle).image_name, block, action.value)
        volume.content = (*before[:block], action.value, *before[block + 1 :])
        self._model.changed(volume)

    def attach(self, volume: KnownVolume) -> None:
        image = self._invariants.volume_entry(volume.handle).image_name
        (self._world.detach if volume.is_attached else self._world.attach)(image)
        volume.is_attached = not volume.is_attached

    def expand(self, volume: KnownVolume, on: Process) -> None:
        size_bytes = max(volume.sizes_bytes)
        if size_bytes < MOST_BLOCKS * self._world.block_bytes:
            size_bytes += self._world.block_bytes
        volume.sizes_bytes.add(size_bytes)
        try:
            present = on.expansion.expand(volume.handle, CapacityRange(size_bytes), size_bytes, None)
        except self._unanswered:
            return
        check(
            present >= size_bytes,
            f"{volume.spec.name} has {present} bytes, asked for were {size_bytes}",
        )
        volume.sizes_bytes = {one for one in volume.sizes_bytes if one >= present}

    def delete(self, volume: KnownVolume, on: Process) -> None:
        """Under a client nothing of it may begin."""
        was_attached = volume.is_attached
        if not was_attached:
            volume.life = Life.DELETING
        try:
            on.deletion.delete(volume.handle, None)
        except Unfinished:
            return
        except InUse as refusal:
            if not was_attached:
                raise Broken(f"the deletion of {volume.spec.name} was refused") from refusal
            return
        check(not was_attached, f"{volume.spec.name} was deleted under its client")
        self._model.forget(volume)

    def delete_snapshot(self, snapshot: KnownSnapshot, on: Process) -> None:
        snapshot.life = Life.DELETING
        try:
            on.snapshot_deletion.delete(snapshot.handle, None)
        except Unfinished:
            return
        self._model.forget(snapshot)
