"""One thing that a rebuild has to do."""

from dataclasses import dataclass
from enum import StrEnum

from csi_driver.ceph.api import Snap
from csi_driver.claims import MemberClaim, VolumeClaim
from csi_driver.journal.layout import Kind


class Act(StrEnum):
    ENTRY = "entry"
    """Entry and name are written."""
    NAME = "name"
    """The entry is there, and its name's key is written."""
    NOTHING = "nothing"
    """A person is needed: `problem` says why."""


@dataclass(frozen=True)
class Restoration:
    """One thing that the journal has lost.

    image: the volume's, the snap's or the snapshot's own, or the name of the RBD group · snap: of a native snapshot ·
    source: of the other kind, the image that it was cut of · members: of a group
    """

    kind: Kind
    uuid: str
    request_name: str
    act: Act
    image: str = ""
    snap: Snap | None = None
    source: str = ""
    claim: VolumeClaim | None = None
    members: tuple[MemberClaim, ...] = ()
    problem: str = ""

    @property
    def is_possible(self) -> bool:
        return self.act is not Act.NOTHING
