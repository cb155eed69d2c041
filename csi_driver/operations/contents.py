"""What to do with the content of a device that is to be mounted: the rule that nothing is ever formatted over.

Owns the decision and nothing else: no I/O.

  found             writable device                            read-only device
  BLANK             format; refuse in a static volume          refuse
  UNFINISHED        format over: it never was mountable;       refuse
                    refuse in a static volume
  UNKNOWN           refuse; format over only when our own      refuse
                    mkfs was cut short in this boot
  FILE_SYSTEM       mount if it is the one that is wanted, or none is wanted and we know it; else refuse
  FOREIGN           refuse                                     refuse
"""

from dataclasses import dataclass
from enum import Enum, auto

from csi_driver.errors import InUse
from csi_driver.host.api import Content, Finding

DEFAULT_FS_TYPE = "ext4"
FS_TYPES = ("ext4", "xfs")


class Treatment(Enum):
    FORMAT = auto()
    FORMAT_OVER = auto()
    MOUNT = auto()


@dataclass(frozen=True)
class Wish:
    """fs_type: "" when the request leaves it open. formatting: the stage record says that our mkfs was at work.

    may_format: not in an image that somebody else made.
    """

    fs_type: str
    read_only: bool
    formatting: bool
    may_format: bool = True


def decide(finding: Finding, wish: Wish) -> tuple[Treatment, str]:
    """What to do, and the file system's type. Raises InUse, which says what the device holds."""
    fs_type = wish.fs_type or DEFAULT_FS_TYPE
    if finding.content is Content.FILE_SYSTEM:
        if finding.name == fs_type or (not wish.fs_type and finding.name in FS_TYPES):
            return Treatment.MOUNT, finding.name
        raise InUse(
            f"the volume holds a file system of type {finding.name}, and {fs_type} is wanted; it is left as it is"
        )
    if finding.content is Content.FOREIGN:
        raise InUse(f"the volume holds {finding.name}, not a file system of type {fs_type}; it is left as it is")
    if finding.content is Content.UNKNOWN and not wish.formatting:
        raise InUse("the volume holds data that no file system explains; it is not formatted")
    if not wish.may_format:
        raise InUse(
            f"the volume holds no file system, and an image that the driver did not make is not given one ({fs_type})"
        )
    if wish.read_only:
        raise InUse("the volume holds no file system, and cannot be given one since it is attached read-only")
    return (Treatment.FORMAT if finding.content is Content.BLANK else Treatment.FORMAT_OVER), fs_type
