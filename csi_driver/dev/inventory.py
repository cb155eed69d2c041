"""What volumes and snapshots leave in a pool: the images, the trash, the journal's objects and keys.

Asked with Ceph's own tools, as the operator, so that it tells what is there and not what the driver believes.
"""

import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from csi_driver.dev.layout import DevCeph
from csi_driver.host.commands import run

_TIMEOUT_S = 60.0

# Objects that exist only while a volume, a snapshot or a group does. Others (directories, makers) may stay for ever.
_OBJECTS_OF_VOLUMES = (
    "csi.volume.",
    "csi.snap.",
    "rbd_data.",
    "rbd_header.",
    "rbd_group_header.",
    "rbd_id.",
    "rbd_object_map.",
)
_DIRECTORIES = ("csi.volumes.", "csi.snaps.", "csi.groups.")


@dataclass(frozen=True)
class Place:
    """A pool, or a rados namespace of one."""

    pool: str
    rados_namespace: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.pool, self.rados_namespace) if part)


def inventory(ceph: DevCeph, place: Place) -> frozenset[str]:
    """One line for each image, trash entry, object and directory key."""
    images = ceph.rbd("ls", str(place)).splitlines()
    trashed = ceph.rbd("trash", "ls", "--all", str(place)).splitlines()
    objects = _rados(ceph, place, "ls")
    found = {f"image {name}" for name in images} | {f"trash {line}" for line in trashed}
    found |= {f"object {name}" for name in objects if name.startswith(_OBJECTS_OF_VOLUMES)}
    for name in objects:
        if name.startswith(_DIRECTORIES):
            found |= {
                f"key {name} {key}"
                for key in _rados(ceph, place, "listomapkeys", name)
                if key.startswith(("csi.", "deleted."))
            }
    return frozenset(found)


def leftovers(
    ceph: DevCeph,
    place: Place,
    *,
    wait_s: float = 240.0,
    known: frozenset[str] = frozenset(),
    meanwhile: Callable[[], None] = lambda: None,
) -> frozenset[str]:
    """The inventory of a pool that should be empty but for what is `known`; given time: deletes go on behind their answers.

    wait_s: in which nothing has gone. A client that was killed keeps an image by its watch for half a minute, on a loaded
    machine for longer. meanwhile: called after each look that found something.
    """
    fewest, deadline = sys.maxsize, 0.0
    while found := inventory(ceph, place) - known:
        if len(found) < fewest:
            fewest, deadline = len(found), time.monotonic() + wait_s
        elif time.monotonic() > deadline:
            break
        trim(ceph, found)
        meanwhile()
        time.sleep(0.1)
    return found


def trim(ceph: DevCeph, found: Collection[str]) -> None:
    """Have Ceph do now what its OSDs do once a day, if there is nothing but objects with data.

    A removal of a snap that is killed in between has the snap's id purged while the image's header still names it. What is
    written then keeps its old data for this snap, and no later removal trims that (docs/decisions/0024).
    """
    if found and all(line.startswith("object rbd_data.") for line in found):
        ceph.ceph("tell", "osd.*", "scrub_purged_snaps")


def contents(ceph: DevCeph, place: Place, line: str) -> str:
    """A line of the inventory, and of an object what it holds: whose leftover it is, is told by that."""
    kind, _, name = line.partition(" ")
    if kind != "object":
        return line
    told = (f"{what}: {_rados(ceph, place, what, name)}" for what in ("listomapvals", "listxattr", "listwatchers"))
    return "\n  ".join((line, *told))


def _rados(ceph: DevCeph, place: Place, *command: str) -> list[str]:
    where = ("-c", str(ceph.conf), "-p", place.pool, "-N", place.rados_namespace)
    return run(("rados", *where, *command), timeout_s=_TIMEOUT_S).stdout.splitlines()
