"""Images open for writing, each at most once on a connection, shared by the calls that work on it at one time.

Two opens of one image by one process hand its exclusive lock to and fro for every snap, and librbd 16.2 has died when one
of them closed while another asked it for the lock. A shared image is asked by all its users at once, which librbd allows.

An open takes milliseconds, and so does a close. A caller that will need an image has it opened ahead, behind the writes that
come before, and closed behind those that come after, and behind its answer.
"""

import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import structlog

log = structlog.get_logger(__name__)


class _Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=_Closable)

_AHEAD_AT_ONCE = 16
"""On a connection. What is more is opened when it is used."""


@dataclass
class _Slot(Generic[T]):
    users: int = 0
    image: T | None = None
    turning: threading.Lock = field(default_factory=threading.Lock)
    """Held while the image is opened or closed, so that no open overlaps a close."""
    held_ahead: list["_Holding"] = field(default_factory=list)
    """By those who had it opened ahead."""


@dataclass
class _Holding:
    """Held for so many uses; over when these are made, or whoever had it opened leaves."""

    uses: int
    is_over: threading.Event = field(default_factory=threading.Event)
    is_opened: threading.Event = field(default_factory=threading.Event)
    """Or could not be, or need not be: the caller's pool is not needed any more."""

    def use(self) -> None:
        self.uses -= 1
        if self.uses <= 0:
            self.is_over.set()


class OpenImages(Generic[T]):
    """The images of one connection that are open now."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._slots: dict[Hashable, _Slot[T]] = {}
        self._ahead = ThreadPoolExecutor(_AHEAD_AT_ONCE, thread_name_prefix="open-ahead")

    @contextmanager
    def share(self, key: Hashable, open_image: Callable[[], T]) -> Iterator[T]:
        """The image of that key, opened unless it is open; closed when its last user leaves. Raises what the open raises."""
        slot = self._enter(key)
        try:
            with slot.turning:
                image = slot.image = slot.image or open_image()
            yield image
        finally:
            for holding in tuple(slot.held_ahead):
                holding.use()
            self._leave(key, slot)

    @contextmanager
    def ahead(self, key: Hashable, open_image: Callable[[], T], uses: int = 1) -> Iterator[None]:
        """Has the image opened for so many `share`s to come, and closed after them, both behind the caller's back.

        It is closed at the latest when the caller leaves, who does not wait for it. A failed open is left to `share`.
        """
        holding = _Holding(uses)
        held = self._ahead.submit(self._hold, key, open_image, holding)
        try:
            yield
        finally:
            holding.is_over.set()
            if not held.cancel():
                holding.is_opened.wait()
                held.add_done_callback(_tell_failure)

    def _hold(self, key: Hashable, open_image: Callable[[], T], holding: _Holding) -> None:
        if holding.is_over.is_set():
            holding.is_opened.set()
            return
        slot = self._enter(key)
        slot.held_ahead.append(holding)
        try:
            with slot.turning:
                slot.image = slot.image or open_image()
        except Exception:  # noqa: BLE001 - whoever uses the image opens it again, and meets it
            holding.is_over.set()
        finally:
            holding.is_opened.set()
        holding.is_over.wait()
        slot.held_ahead.remove(holding)
        self._leave(key, slot)

    def _enter(self, key: Hashable) -> _Slot[T]:
        with self._guard:
            slot = self._slots.setdefault(key, _Slot())
            slot.users += 1
        return slot

    def close(self) -> None:
        """No image is opened ahead any more. Waits for those that are being closed."""
        self._ahead.shutdown()

    def _leave(self, key: Hashable, slot: _Slot[T]) -> None:
        with slot.turning:
            with self._guard:
                slot.users -= 1
                is_last = slot.users == 0
            if is_last and slot.image:
                image, slot.image = slot.image, None
                image.close()
            with self._guard:
                if slot.users == 0 and self._slots.get(key) is slot:
                    del self._slots[key]


def _tell_failure(held: "Future[None]") -> None:
    if error := held.exception():
        log.warning("an image could not be closed", reason=repr(error))
