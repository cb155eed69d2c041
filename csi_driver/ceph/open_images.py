"""Images open for writing, each at most once on a connection, shared by the calls that work on it at one time.

Two opens of one image by one process hand its exclusive lock to and fro for every snap, and librbd 16.2 has died when one
of them closed while another asked it for the lock. A shared image is asked by all its users at once, which librbd allows.
"""

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class _Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=_Closable)


@dataclass
class _Slot(Generic[T]):
    users: int = 0
    image: T | None = None
    turning: threading.Lock = field(default_factory=threading.Lock)
    """Held while the image is opened or closed, so that no open overlaps a close."""


class OpenImages(Generic[T]):
    """The images of one connection that are open now."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._slots: dict[Hashable, _Slot[T]] = {}

    @contextmanager
    def share(self, key: Hashable, open_image: Callable[[], T]) -> Iterator[T]:
        """The image of that key, opened unless it is open; closed when its last user leaves. Raises what the open raises."""
        with self._guard:
            slot = self._slots.setdefault(key, _Slot())
            slot.users += 1
        try:
            with slot.turning:
                image = slot.image = slot.image or open_image()
            yield image
        finally:
            self._leave(key, slot)

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
