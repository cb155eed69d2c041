"""One image of the flatten queue: what has to be done with it, and doing it.

`decide` holds the rows that a crash can leave. librbd copies the data, takes the image off its parent's list, lets a
trashed snap of the parent go that has no other clone, and removes the link in the image. So a whole image with a link that
is not listed has all its data, whether its parent's snap is still there or not: what is left to do is to remove the link.
Without deep-flatten its snaps keep theirs, so that librbd takes an image with snaps off no list, and the pin keeps it there
until nothing can be cut with a link any more. One that others have flattened, and that was snapped between the crash and
the repair, is put back on it, before its parent's snap goes and the snaps cannot be opened any more.
Only images with an entry in the queue are repaired, since a half-made clone looks the same; an entry is written only when
its image is whole.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

import structlog

from csi_driver import notices
from csi_driver.ceph.api import FlattenStopped, ImageInfo, ImageMissing
from csi_driver.errors import Busy
from csi_driver.journal.entries import VolumeEntry
from csi_driver.journal.flatten_queue import QueueEntry
from csi_driver.journal.layout import State
from csi_driver.journal.reading import Lost
from csi_driver.mutable import GIB
from csi_driver.notices import Notice
from csi_driver.operations.flatten_course import Verdict
from csi_driver.operations.site import Site

log = structlog.get_logger(__name__)

PATIENCE_S = 3600.0
"""How long an image that a client has open is put off: its writer would become slower and stall for moments."""

_ROUNDS = 4

_LIVING = (State.COMPLETE, State.FLATTENING)
_KEPT = (*_LIVING, State.DELETING, State.TOMBSTONE, State.SHRUNK, State.TRASHED, State.RESTORING)


class Step(Enum):
    """What is done next with an image of the queue."""

    FLATTEN = auto()
    FINISH = auto()  # flat: say so in its entry, and take it off the queue
    REPAIR = auto()  # cut short after all was copied: remove the link that it left
    LIST_AGAIN = auto()  # likewise, and snaps were cut since, which keep the link: they need their place on the list
    UNPIN = auto()  # a flatten that was cut short has left its pin
    DROP = auto()  # nothing to do any more: off the queue
    PUT_OFF = auto()  # in use, or in a state that is not understood: later


_MENDING = {
    Step.REPAIR: "repairing an image whose flatten was cut short",
    Step.LIST_AGAIN: "listing an image again that a flatten cut short took off its parent's list",
    Step.UNPIN: "removing the pin of a flatten that was cut short",
}


@dataclass(frozen=True)
class Found:
    """What stands there. state: of the image's volume; None when that is gone or has another image.

    has_parent: its head. has_link: the head, or a snap. is_listed: among the clones of the snap that the link names.
    has_snaps: of any kind, which snapshots or copies may still read through the image. is_pinned: none of these.
    """

    state: State | None
    has_header: bool
    can_be_opened: bool
    has_parent: bool
    has_link: bool
    is_listed: bool
    has_deep_flatten: bool
    is_watched: bool
    waited_s: float = 0.0
    has_snaps: bool = False
    is_pinned: bool = False
    size_bytes: int = 0


def decide(found: Found) -> Step:
    step = _decide(found)
    return Step.UNPIN if found.is_pinned and step in (Step.FINISH, Step.DROP, Step.PUT_OFF) else step


def _decide(found: Found) -> Step:
    if found.state not in _KEPT or not found.has_header:
        return Step.DROP
    if found.is_pinned and not found.has_parent:
        return Step.FINISH  # a link that is not listed is the pin's, which goes first
    if found.has_link and not found.is_listed:
        return Step.LIST_AGAIN if found.has_snaps and not found.has_deep_flatten else Step.REPAIR
    if not found.can_be_opened:
        return Step.PUT_OFF
    # Deleted, with snaps: a flatten that was cut short may have taken it off its parent's list already, which then goes.
    is_needed = found.state in _LIVING or (found.has_parent and found.has_snaps)
    if not is_needed or not found.has_parent:
        return Step.FINISH if is_needed else Step.DROP
    return Step.PUT_OFF if found.is_watched and found.waited_s < PATIENCE_S else Step.FLATTEN


Flatten = Callable[[int, Callable[[Site], Verdict]], None]
"""Carries a flatten out: the image's size, and how to look whether to go on. Raises FlattenStopped."""


def verdict(found: Found) -> Verdict:
    """Of a flatten that is under way."""
    if decide(found) is not Step.FLATTEN:
        return Verdict.STOP
    return Verdict.GO_SLOWLY if found.is_watched else Verdict.GO_ON


def work_at(site: Site, queued: QueueEntry, flatten: Flatten) -> bool:
    """Bring one image to its end; False when it is put off. Raises DriverError, ImageBusy."""
    has_told = False
    for _ in range(_ROUNDS):
        volume = _volume(site, queued)
        found = _look(site, queued, volume)
        step = decide(found)
        if step is Step.PUT_OFF:
            return False
        if step in _MENDING:
            with suppress(ImageMissing):  # looked at again
                _mend(site, queued, step)
        elif step is Step.FLATTEN:
            if not has_told and volume is not None and volume.state in _LIVING:
                site.tell(_began(volume, found))
                has_told = True
            try:
                _flatten(site, queued, found, flatten)
            except FlattenStopped:
                log.info("flatten is broken off", image=queued.image_name)  # looked at again: put off, or dropped
        elif step is Step.DROP or _is_recorded(site, volume):
            site.flatten_queue.remove(queued.image_id)
            if step is Step.FINISH and volume is not None and volume.state in _LIVING:
                said = "it shares no data with its source any more"
                site.tell(Notice(volume.request_name, notices.FLATTENED, said, is_warning=False))
            return True
    raise Busy(f"image {queued.image_name} is changed again and again by other processes")


def _mend(site: Site, queued: QueueEntry, step: Step) -> None:
    """What a flatten has left that was cut short. Raises ImageMissing."""
    log.warning(_MENDING[step], image=queued.image_name)
    if step is Step.REPAIR:
        site.pool.ancestry.drop_parent(queued.image_id)
    elif step is Step.LIST_AGAIN:
        site.pool.ancestry.list_again(queued.image_id)
    else:
        site.pool.images.unpin(queued.image_id)


def _flatten(site: Site, queued: QueueEntry, found: Found, flatten: Flatten) -> None:
    began = time.monotonic()
    log.info("flatten begins", image=queued.image_name, pool=site.pool.name)
    try:
        flatten(found.size_bytes, lambda beside: verdict(_look(beside, queued, _volume(beside, queued))))
    except ImageMissing:
        return  # looked at again
    log.info("flatten ended", image=queued.image_name, pool=site.pool.name, s=round(time.monotonic() - began, 2))


def _began(volume: VolumeEntry, found: Found) -> Notice:
    size = f"{found.size_bytes / GIB:.4g} GiB"
    said = f"the data that it shares with its source is copied, of {size} at most; it can be used meanwhile"
    return Notice(volume.request_name, notices.FLATTENING, said, is_warning=False)


def tell_put_off(site: Site, queued: QueueEntry, reason: str) -> None:
    """Tell those who use the volume, if it lives."""
    volume = _volume(site, queued)
    if volume is not None and volume.state in _LIVING:
        said = f"its flatten waits, and what its source holds stays with it: {reason}"
        site.tell(Notice(volume.request_name, notices.FLATTEN_PUT_OFF, said))


def _is_recorded(site: Site, volume: VolumeEntry | None) -> bool:
    """The depth in the volume's entry; False when that was changed meanwhile."""
    try:
        if volume is not None:
            site.journal.record_depth(volume, 0)
    except Lost:
        return False
    return True


def is_living(site: Site, queued: QueueEntry) -> bool:
    """Whether the image's volume is not deleted."""
    volume = _volume(site, queued)
    return volume is not None and volume.state in _LIVING


def _volume(site: Site, queued: QueueEntry) -> VolumeEntry | None:
    volume = site.journal.load(queued.uuid)
    return volume if volume is not None and volume.image_id == queued.image_id else None


def _look(site: Site, queued: QueueEntry, volume: VolumeEntry | None) -> Found:
    ancestry = site.pool.ancestry
    try:
        info: ImageInfo | None = site.pool.images.inspect_id(queued.image_id)
    except ImageMissing:
        info = None
    return Found(
        state=volume.state if volume else None,
        has_header=info is not None or ancestry.has_header(queued.image_id),
        can_be_opened=info is not None,
        has_parent=info is not None and info.has_parent,
        has_link=ancestry.find_parent(queued.image_id) is not None,
        is_listed=ancestry.is_listed(queued.image_id),
        has_deep_flatten=info is not None and "deep-flatten" in info.features,
        is_watched=info is not None and _is_watched(site, info),
        waited_s=time.time() - queued.queued_at,
        has_snaps=info is not None and bool(info.snaps),
        is_pinned=info is not None and info.is_pinned,
        size_bytes=info.size_bytes if info else 0,
    )


def _is_watched(site: Site, info: ImageInfo) -> bool:
    """By a client that is none of the driver's connections."""
    if not info.watchers:
        return False
    own = site.flatten_workers.addresses() | site.makers.addresses(site.pool)
    return any(watcher.address not in own for watcher in info.watchers)
