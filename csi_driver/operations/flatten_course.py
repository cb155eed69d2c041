"""How fast an image is flattened, and when that is broken off: the course of one flatten.

librbd tells its progress on a thread of its own, object by object; there is waited, and answered whether to go on. What has
to be asked of Ceph is asked on another thread, twice a second: whether the image is still to be flattened, whether a
client has opened it. An image at rest that is opened is left alone at once: its writer would become slower and stall for
moments. One that has been in use for too long is flattened all the same, slowly. What was copied is not copied again.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto

import structlog

from csi_driver.errors import DriverError

log = structlog.get_logger(__name__)

LOOK_S = 0.5
"""Soon enough for most that is staged: a client of librbd that has written has the image's lock, and then flattens itself."""
_TELL_EVERY = 4
"""Looks."""
_LONGEST_WAIT_S = 0.5
"""At once, on librbd's thread, which keeps the image's lock meanwhile."""

MIB = 1 << 20


@dataclass(frozen=True)
class FlattenSettings:
    """at_once: images of a pool that one process flattens at a time; 0: none.

    The rates count what is passed of an image's length, data or not, in MiB a second; 0: no limit. in use: by a client.
    """

    at_once: int = 1
    rate_mib: float = 0.0
    rate_in_use_mib: float = 16.0


DEFAULT_SETTINGS = FlattenSettings()


class Verdict(Enum):
    """What a look at the image says of its flatten."""

    GO_ON = auto()
    GO_SLOWLY = auto()  # it is in use, and was for too long
    STOP = auto()  # it is in use, or need not be flattened any more


class Course:
    """One flatten. `look` asks Ceph, and `tell` says there how far it is."""

    def __init__(
        self, settings: FlattenSettings, size_bytes: int, look: Callable[[], Verdict], tell: Callable[[float], None]
    ) -> None:
        self._settings = settings
        self._size_bytes = size_bytes
        self._look = look
        self._tell = tell
        self._ended = threading.Event()
        self._verdict = Verdict.GO_ON
        self._began = (time.monotonic(), 0.0)
        """When the present rate began, and the part that was done then."""
        self.part = 0.0
        self.has_told = False

    @contextmanager
    def looked_after(self, first: Verdict) -> Iterator[None]:
        """While librbd flattens."""
        self._turn(first)
        looking = threading.Thread(target=self.look_on, name="flatten-look", daemon=True)
        looking.start()
        try:
            yield
        finally:
            self._ended.set()
            looking.join()

    def look_on(self) -> None:
        looks = 0
        while not self._ended.wait(LOOK_S) and self._verdict is not Verdict.STOP:
            looks += 1
            try:
                self._turn(self._look())
                if looks % _TELL_EVERY == 0:
                    self.has_told = True
                    self._tell(self.part)
            except DriverError as error:
                log.info("a look at a flatten failed", reason=str(error))

    def _turn(self, verdict: Verdict) -> None:
        if verdict is not self._verdict:
            self._began = (time.monotonic(), self.part)
            self._verdict = verdict

    def told(self, part: float) -> bool:
        """By librbd. Waits for the rate; whether to go on."""
        self.part = part
        self._ended.wait(min(self._ahead_s(part), _LONGEST_WAIT_S))
        return self._verdict is not Verdict.STOP

    def _ahead_s(self, part: float) -> float:
        is_slow = self._verdict is Verdict.GO_SLOWLY
        rate = (self._settings.rate_in_use_mib if is_slow else self._settings.rate_mib) * MIB
        began_at, began_part = self._began
        if not rate:
            return 0.0
        return max(0.0, (part - began_part) * self._size_bytes / rate - (time.monotonic() - began_at))
