"""What the driver has promised: the volumes and snapshots that it answered, and what they must read.

A content is a number for each block. A volume that may have grown reads zeros behind the content that is known.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from csi_driver.model import SnapshotSpec, VolumeSpec

Content = tuple[int, ...]


class Life(Enum):
    """How far something has come, as its user knows it."""

    PENDING = auto()  # asked for, and not answered yet
    LIVE = auto()
    DELETING = auto()  # its deletion was asked for, and not answered yet
    GONE = auto()


@dataclass(eq=False)
class Known:
    """A volume or snapshot. acceptable: what a copy may read that is being made: all that its source ever did meanwhile."""

    life: Life = Life.PENDING
    handle: str = ""
    content: Content = ()
    acceptable: list[Content] = field(default_factory=list)

    @property
    def source_handle(self) -> str:
        raise NotImplementedError


@dataclass(eq=False)
class KnownVolume(Known):
    """sizes_bytes: those that it may have, after an expansion that was not answered."""

    spec: VolumeSpec = field(kw_only=True)
    sizes_bytes: set[int] = field(default_factory=set)
    is_attached: bool = False

    @property
    def source_handle(self) -> str:
        return self.spec.source.handle if self.spec.source else ""


@dataclass(eq=False)
class KnownSnapshot(Known):
    spec: SnapshotSpec = field(kw_only=True)

    @property
    def source_handle(self) -> str:
        return self.spec.source_handle


class Model:
    """All that is known, by name."""

    def __init__(self) -> None:
        self.volumes: dict[str, KnownVolume] = {}
        self.snapshots: dict[str, KnownSnapshot] = {}

    @property
    def everything(self) -> list[Known]:
        return [*self.volumes.values(), *self.snapshots.values()]

    def live(self, handle: str) -> Known | None:
        return next((one for one in self.everything if one.handle == handle and one.life is Life.LIVE), None)

    def changed(self, volume: KnownVolume) -> None:
        """What is being copied of it may read this, too."""
        for one in self.everything:
            if one.life is Life.PENDING and one.source_handle == volume.handle:
                one.acceptable.append(volume.content)

    def forget(self, one: Known) -> None:
        one.life = Life.GONE
        self.volumes = {name: there for name, there in self.volumes.items() if there is not one}
        self.snapshots = {name: there for name, there in self.snapshots.items() if there is not one}


def fits(content: Content, known: Content) -> bool:
    """Whether this is what is known, with zeros behind it."""
    return content[: len(known)] == known and not any(content[len(known) :]) and len(content) >= len(known)
