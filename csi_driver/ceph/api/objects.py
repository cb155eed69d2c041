"""Objects with omap keys: the writes that the journal is made of, and leases."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol


class Create(Enum):
    """What a `Write` does about the object's existence, before it compares."""

    NO = auto()
    ENSURE = auto()
    EXCLUSIVE = auto()


@dataclass(frozen=True)
class Write:
    """One atomic write operation on one object. All of it happens, or nothing.

    compare: key -> value that it must hold; "" also stands for a key that is missing.
    """

    create: Create = Create.NO
    compare: Mapping[str, str] = field(default_factory=dict)
    put: Mapping[str, str] = field(default_factory=dict)
    drop: Sequence[str] = ()
    remove_object: bool = False


class Leases(Protocol):
    """Locks that end by themselves."""

    def take_lease(self, name: str, seconds: int) -> bool:
        """Take the object's lock for this connection and so long, or for so long again; false while another one has it."""

    def is_leased(self, name: str) -> bool:
        """Whether anybody has it now."""

    def end_lease(self, name: str) -> None:
        """Give the lock back before its time; fine when it is no longer there."""


class Objects(Protocol):
    """Objects with omap keys in one pool and namespace."""

    def apply(self, name: str, write: Write) -> None:
        """Raises ObjectExists (exclusive create), ObjectMissing (compare or removal of what is not there), CompareFailed."""

    def read(self, name: str) -> dict[str, str] | None:
        """All keys of an object (however many), or None when it does not exist."""

    def read_key(self, name: str, key: str) -> str | None:
        """One key; None when the object or the key does not exist."""

    def read_both(self, name: str, key: str, other: str) -> tuple[str | None, dict[str, str] | None]:
        """`read_key` of one object and `read` of another, side by side: neither is the earlier one."""

    def names(self) -> Iterator[str]:
        """The names of all objects there, those of images' data among them: in a large pool that takes minutes."""

    def list_page(self, name: str, *, prefix: str, after: str, limit: int) -> list[tuple[str, str]]:
        """Keys after `after`, in byte order. A short page is not the end, an empty one is. Missing object: empty."""
