"""What can be wrong with a pool, each kind with what made it and what a repair does."""

from dataclasses import dataclass
from enum import StrEnum

from csi_driver.journal.layout import Kind


class FindingClass(StrEnum):
    """The values are the names on the command line."""

    NAME_WITHOUT_ENTRY = "name-without-entry"
    ENTRY_WITHOUT_NAME = "entry-without-name"
    UNFINISHED_CREATE = "unfinished-create"
    UNFINISHED_IMAGE = "unfinished-image"
    EMPTY_ENTRY = "empty-entry"
    DELETED_WITHOUT_ENTRY = "deleted-without-entry"
    TEMPORARY_SNAP = "temporary-snap"
    WRONG_DEPTH = "wrong-depth"
    CUT_OFF_PARENT = "cut-off-parent"
    UNREADABLE_ENTRY = "unreadable-entry"
    MISSING_IMAGE = "missing-image"
    MISSING_KEY = "missing-key"
    MISSING_SNAP = "missing-snap"
    MISSING_GROUP = "missing-group"
    MEMBER_WITHOUT_GROUP = "member-without-group"
    UNEXPLAINED_IMAGE = "unexplained-image"
    UNEXPLAINED_SNAP = "unexplained-snap"
    TRASH_WITHOUT_IMAGE = "trash-without-image"
    UNEXPLAINED_TRASH = "unexplained-trash"
    UNEXPLAINED_GROUP = "unexplained-group"
    TEMPORARY_IMAGE = "temporary-image"
    NAMELESS_HEADER = "nameless-header"
    STRAY_OBJECT_MAP = "stray-object-map"


@dataclass(frozen=True)
class About:
    """cause: how it comes about · remedy: what a repair does; empty: nothing, a person is needed.

    is_named_only: its data is explained by nothing, so that it is repaired only when it is named.
    """

    cause: str
    remedy: str
    is_named_only: bool = False


ABOUT = {
    FindingClass.NAME_WITHOUT_ENTRY: About(
        "the name's key leads to no entry: a create of either driver was killed, or somebody removed the entry",
        "the key is dropped, so that the name is free",
    ),
    FindingClass.ENTRY_WITHOUT_NAME: About(
        "no key of the directory leads to the entry: the Go driver was killed in a create or a delete",
        "the name's key is put if the name is free, else the entry is noted, so that it is found by its handle",
    ),
    FindingClass.UNFINISHED_CREATE: About(
        "a create was begun, and nobody has repeated it for an hour",
        "its maker is cut off, and what it made is removed",
    ),
    FindingClass.UNFINISHED_IMAGE: About(
        "a create was begun and not repeated for an hour, and its image can be opened: killed in its last step, "
        "or a volume that was handed out lost its entry",
        "its maker is cut off, and the image is removed; `rbd-csi rebuild` restores a volume that was handed out",
        is_named_only=True,
    ),
    FindingClass.EMPTY_ENTRY: About(
        "an entry of the Go driver for an image that was never made, or is gone, without a name",
        "the entry is removed",
    ),
    FindingClass.DELETED_WITHOUT_ENTRY: About(
        "a purge was cut short in its last step, and no process has looked at the pool since", "the note is dropped"
    ),
    FindingClass.TEMPORARY_SNAP: About(
        "the snap that a volume was cloned from is still there, though the clone is complete or gone", "it is removed"
    ),
    FindingClass.WRONG_DEPTH: About(
        "the image has more ancestors than its entry says: it was moved or cloned past the driver",
        "the depth is counted and recorded",
    ),
    FindingClass.CUT_OFF_PARENT: About(
        "a flatten past the driver was killed after its last write but one: the image has all its data and cannot be opened",
        "the link to the parent that is gone is removed",
    ),
    FindingClass.UNREADABLE_ENTRY: About("the entry holds what no version of the driver writes", ""),
    FindingClass.MISSING_IMAGE: About("a volume's image was removed past the driver: its data is lost", ""),
    FindingClass.MISSING_KEY: About(
        "the key of an encrypted volume was removed from its image's metadata, or changed there, past the driver", ""
    ),
    FindingClass.MISSING_SNAP: About(
        "a snapshot's snap was removed past the driver: its data is lost", "the snapshot is deleted", is_named_only=True
    ),
    FindingClass.MISSING_GROUP: About(
        "of a group snapshot the RBD group, its snap or a member's snapshot was removed past the driver: its data is lost",
        "the group snapshot is deleted as a whole",
        is_named_only=True,
    ),
    FindingClass.MEMBER_WITHOUT_GROUP: About(
        "a snapshot is part of a group snapshot whose entry was removed past the driver: it can be restored, not deleted",
        "",
    ),
    FindingClass.UNEXPLAINED_IMAGE: About(
        "an image with a volume's name that no entry explains",
        "it is moved to the trash and purged",
        is_named_only=True,
    ),
    FindingClass.UNEXPLAINED_SNAP: About(
        "a snap with a snapshot's name that no entry explains", "it is removed", is_named_only=True
    ),
    FindingClass.TRASH_WITHOUT_IMAGE: About(
        "an entry of the trash for a volume's image that is gone, header and all", "it is removed"
    ),
    FindingClass.UNEXPLAINED_TRASH: About(
        "an image with a volume's name in the trash, whose entry is gone", "it is purged", is_named_only=True
    ),
    FindingClass.UNEXPLAINED_GROUP: About(
        "an RBD group with the name of a group snapshot that no entry explains",
        "it is removed with its snaps; its members stay",
        is_named_only=True,
    ),
    FindingClass.TEMPORARY_IMAGE: About(
        "the intermediate image of a clone of the Go driver, whose clone is gone or independent of it",
        "it is moved to the trash and purged",
        is_named_only=True,
    ),
    FindingClass.NAMELESS_HEADER: About(
        "a removal of an image was killed, or an OSD stood still in a create of the Go driver or of a person: neither a name "
        "nor the trash leads to what is left",
        "it is removed with its data by way of the trash",
        is_named_only=True,
    ),
    FindingClass.STRAY_OBJECT_MAP: About(
        "an OSD stood still in a create: of its image nothing but an object map came to be", "it is removed"
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. subject: what it is about, in words · key: what a repair needs to find it again.

    kind: volumes, snapshots or groups, where it is about an entry · name: by which `--name` means it.
    """

    what: FindingClass
    name: str
    subject: str
    kind: Kind | None = None
    uuid: str = ""
    image_id: str = ""

    @property
    def about(self) -> About:
        return ABOUT[self.what]
