"""Where images are, what is done there past librbd, and how librbd's errors become those of ceph/api."""

import errno
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import rbd

from csi_driver.ceph.api import ImageBusy, ImageExists, ImageHasSnapshots, ImageMissing, ObjectMissing, Write
from csi_driver.ceph.class_writes import ClassWrite
from csi_driver.ceph.clone_gate import CloneGate
from csi_driver.ceph.open_images import OpenImages
from csi_driver.tracing import step

OpenedImages = OpenImages[rbd.Image]
Translate = Callable[[str], AbstractContextManager[None]]

_EXPECTED: dict[int, type[Exception]] = {
    errno.ENOENT: ImageMissing,
    errno.EEXIST: ImageExists,
    errno.EBUSY: ImageBusy,
    errno.ENOTEMPTY: ImageHasSnapshots,
    errno.EMLINK: ImageBusy,  # still a member of a group
}


@dataclass
class Learnt:
    """What a connection has found out about its cluster; asked anew by the next connection."""

    allows_format_2: bool = False
    """Of clones, when it was last asked."""
    asked_formats_at: float = -math.inf
    """By the monotonic clock."""


@dataclass(frozen=True)
class Place:
    """The pool and namespace of the images: its handle for librbd, what is open there, and its names for messages.

    making: the pool's handle for calls that make images · making_turn: held meanwhile · ask_formats: as
    `Cluster.clones_format_2`.
    """

    ioctx: object
    making: Callable[[], AbstractContextManager[object]]
    making_turn: Callable[[], AbstractContextManager[None]]
    open_images: OpenedImages
    learnt: Learnt
    ask_formats: Callable[[], bool]
    clone_gate: CloneGate
    pool_id: int
    pool: str
    namespace: str
    pool_name: Callable[[int], str]


class PlainObjects(Protocol):
    """What is done to librbd's own objects past librbd, where it would need a whole open."""

    def ask(self, name: str, cls: str, method: str, payload: bytes) -> bytes | None:
        """What a class call that reads answers; None when there is no such object."""

    def read_data(self, name: str) -> bytes | None:
        """An object's data; None when there is no such object."""

    def list_page(self, name: str, *, prefix: str, after: str, limit: int) -> list[tuple[str, str]]:
        """Keys of an object, as `Objects.list_page`."""

    def execute(self, name: str, cls: str, method: str, payload: bytes) -> None:
        """A class call that writes. Raises ObjectMissing; never makes the object."""

    def write_classes(self, writes: Sequence[ClassWrite]) -> list[Exception | None]:
        """Side by side, each atomic; ended when all have ended. What came of each: None when it was done.

        ObjectExists, ObjectMissing or CompareFailed are told as such, everything else as librados' error.
        """

    def apply(self, name: str, write: Write) -> None:
        """As `Objects.apply`."""

    def read_key(self, name: str, key: str) -> str | None:
        """As `Objects.read_key`."""

    def notify(self, name: str) -> None:
        """An empty message to all who watch the object. Those that do not answer in time are not waited for."""

    def ensure(self, name: str) -> None:
        """Make an empty object unless it is there."""

    def push_out(self, name: str) -> None:
        """Have the OSD forget what it knows of the object, and read it anew."""


@contextmanager
def doing(translate: Translate, what: str, name: str) -> Iterator[None]:
    """The step, its errors as those of ceph/api where every image call may raise them, else by the errno table."""
    with step(what, name), translate(f"{what} {name}"):
        try:
            yield
        except ObjectMissing as error:
            raise ImageMissing(name) from error
        except rbd.Error as error:
            if kind := _EXPECTED.get(error.errno or 0):
                raise kind(name) from error
            raise
