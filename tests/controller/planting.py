"""Leftovers and damage of every class that the audit knows, planted among good volumes past the driver."""

import json
import struct
import uuid
from collections.abc import Sequence

import rados

from csi_driver.ceph.api import Create, MetadataWrite, Pool, Write
from csi_driver.dev.layout import DevCeph
from csi_driver.journal.layout import DELETED_PREFIX, GROUPS, SNAPSHOTS, VOLUMES, Kind, begun_key
from csi_driver.model import ImageLayout
from csi_driver.operations.audit.findings import FindingClass
from csi_driver.pb import csi_pb2 as pb
from tests.controller.calls import Calls
from tests.controller.group_calls import group_until_done, ids_of
from tests.controller.test_ceph_csi import plant_ceph_csi_volume
from tests.image_data import leave_in_trash, write
from tests.rpc.valid_requests import GIB

MIB = 1 << 20
_LAYERING = ImageLayout(("layering",))
_KINDS = (VOLUMES, SNAPSHOTS, GROUPS)
_MOST_SNAPS = 400


def uuid_of(handle: str) -> str:
    return handle[-36:]


def image_named(volume: pb.Volume) -> str:
    return f"csi-vol-{uuid_of(volume.volume_id)}"


class Planter:
    """Plants, and clears away what no repair does. planted: by class, the names under which the audit tells them."""

    def __init__(self, ceph: DevCeph, pool: Pool, calls: Calls, good: Sequence[pb.Volume]) -> None:
        """good: plain volumes, which get snaps and are put into groups: two more than leftovers of a class."""
        self._ceph = ceph
        self._pool = pool
        self._calls = calls
        self._good = good
        self.planted: dict[str, list[str]] = {}
        self._copies: list[pb.Volume] = []
        self._lost: list[pb.Volume] = []

    def plant(self, each: int) -> None:
        """So many of each class. A group snapshot whose entry is gone is one more of two classes."""
        planters = {
            FindingClass.NAME_WITHOUT_ENTRY: self._name_without_entry,
            FindingClass.ENTRY_WITHOUT_NAME: self._entry_without_name,
            FindingClass.UNFINISHED_CREATE: self._unfinished_create,
            FindingClass.UNFINISHED_IMAGE: self._unfinished_image,
            FindingClass.EMPTY_ENTRY: self._empty_entry,
            FindingClass.DELETED_WITHOUT_ENTRY: self._deleted_without_entry,
            FindingClass.TEMPORARY_SNAP: lambda number: self._snap(number, "csi-clone-"),
            FindingClass.WRONG_DEPTH: self._wrong_depth,
            FindingClass.CUT_OFF_PARENT: self._cut_off_parent,
            FindingClass.UNREADABLE_ENTRY: self._unreadable_entry,
            FindingClass.MISSING_IMAGE: self._missing_image,
            FindingClass.MISSING_KEY: self._missing_key,
            FindingClass.MISSING_SNAP: self._missing_snap,
            FindingClass.MISSING_GROUP: self._missing_group,
            FindingClass.MEMBER_WITHOUT_GROUP: self._member_without_group,
            FindingClass.UNEXPLAINED_IMAGE: lambda _: self._image(f"csi-vol-{uuid.uuid4()}"),
            FindingClass.UNEXPLAINED_SNAP: lambda number: self._snap(number, "csi-snap-"),
            FindingClass.TRASH_WITHOUT_IMAGE: lambda _: leave_in_trash(
                self._ceph, self._image(f"csi-vol-{uuid.uuid4()}")
            ),
            FindingClass.UNEXPLAINED_TRASH: self._unexplained_trash,
            FindingClass.UNEXPLAINED_GROUP: self._unexplained_group,
            FindingClass.TEMPORARY_IMAGE: lambda _: self._image(f"csi-vol-{uuid.uuid4()}-temp"),
            FindingClass.NAMELESS_HEADER: self._nameless_header,
            FindingClass.STRAY_OBJECT_MAP: self._stray_object_map,
        }
        assert planters.keys() == set(FindingClass)
        for number in range(each):
            for what, plant in planters.items():
                self._note(what, plant(number))

    def clear(self) -> None:
        """What a repair leaves to a person, or has brought back to its name."""
        for number, odd in enumerate(self.planted[FindingClass.UNREADABLE_ENTRY]):
            self._remove_entry(VOLUMES, odd, f"odd-{number}")
        for member in self.planted[FindingClass.MEMBER_WITHOUT_GROUP]:
            keys = self._pool.objects.read(SNAPSHOTS.object(member)) or {}
            self._remove_entry(SNAPSHOTS, member, keys["csi.snapname"])
        for volume in self._lost:
            self._image(image_named(volume))
        for number, planted in enumerate(self.planted[FindingClass.ENTRY_WITHOUT_NAME]):
            theirs = self._calls.create(f"theirs-{number}", GIB)
            assert uuid_of(theirs.volume_id) == planted
            self._lost.append(theirs)
        for number in range(len(self.planted[FindingClass.MISSING_KEY])):
            self._lost.append(self._calls.create(f"keyless-{number}", GIB))
        for volume in (*self._copies, *self._lost):
            self._calls.delete_until_done(volume.volume_id)

    def _note(self, what: FindingClass, name: str) -> None:
        self.planted.setdefault(what, []).append(name)

    def _name(self, kind: Kind, name: str, planted: str) -> None:
        put = {kind.name_key(name): planted}
        self._pool.objects.apply(kind.directory("default"), Write(create=Create.ENSURE, put=put))

    def _entry(self, kind: Kind, keys: dict[str, str], name: str = "") -> str:
        """With its name's key where it has a name: its uuid."""
        planted = str(uuid.uuid4())
        self._pool.objects.apply(kind.object(planted), Write(create=Create.EXCLUSIVE, put=keys))
        if name:
            self._name(kind, name, planted)
        return planted

    def _remove_entry(self, kind: Kind, planted: str, name: str) -> None:
        self._pool.objects.apply(kind.object(planted), Write(remove_object=True))
        self._pool.objects.apply(kind.directory("default"), Write(drop=(kind.name_key(name),)))

    def _image(self, name: str) -> str:
        self._pool.images.create(name, MIB, _LAYERING)
        return name

    def _of(self, number: int) -> pb.Volume:
        return self._good[number % len(self._good)]

    def _snap(self, number: int, prefix: str) -> str:
        image, snap = image_named(self._of(number)), f"{prefix}{uuid.uuid4()}"
        self._pool.images.cut(self._id(image), snap, most=_MOST_SNAPS)
        return f"{image}@{snap}"

    def _id(self, image: str) -> str:
        image_id = self._pool.images.find_id(image)
        assert image_id
        return image_id

    def _name_without_entry(self, number: int) -> str:
        self._name(_KINDS[number % 3], f"ghost-{number}", str(uuid.uuid4()))
        return f"ghost-{number}"

    def _entry_without_name(self, number: int) -> str:
        planted = plant_ceph_csi_volume(self._pool, f"theirs-{number}")
        dropped = VOLUMES.name_key(f"theirs-{number}")
        self._pool.objects.apply(VOLUMES.directory("default"), Write(drop=(dropped,)))
        return planted

    def _unfinished_create(self, number: int) -> str:
        """Of a volume with its image, or of a group snapshot with a volume in its group."""
        kind, name = (VOLUMES, GROUPS)[number % 2], f"begun-{number}"
        keys = {"state": "making", "maker": "127.0.0.1:0/1", "made_at": "1000", "csi.volname": name}
        planted = self._entry(kind, keys, name)
        if kind is VOLUMES:
            return uuid_of(self._image(f"csi-vol-{planted}"))
        self._pool.groups.create(f"csi-vol-group-{planted}")
        self._pool.groups.add(f"csi-vol-group-{planted}", self._pool, image_named(self._good[2 + number]))
        return planted

    def _unfinished_image(self, number: int) -> str:
        """As an empty volume is begun: what its entry begins with stands beside its name."""
        planted, name = str(uuid.uuid4()), f"noted-{number}"
        keys = {"state": "making", "maker": "127.0.0.1:0/1", "made_at": "1000", "csi.volname": name}
        put = {VOLUMES.name_key(name): planted, begun_key(planted): json.dumps(keys)}
        self._pool.objects.apply(VOLUMES.directory("default"), Write(create=Create.ENSURE, put=put))
        return uuid_of(self._image(f"csi-vol-{planted}"))

    def _empty_entry(self, number: int) -> str:
        return self._entry(VOLUMES, {"csi.volname": f"gone-{number}"})

    def _deleted_without_entry(self, number: int) -> str:
        planted = str(uuid.uuid4())
        put = {DELETED_PREFIX + planted: ""}
        self._pool.objects.apply(_KINDS[number % 3].directory("default"), Write(create=Create.ENSURE, put=put))
        return planted

    def _wrong_depth(self, number: int) -> str:
        copy = self._copy(f"deep-{number}", self._of(number))
        put = {"depth": "0"}
        self._pool.objects.apply(VOLUMES.object(uuid_of(copy.volume_id)), Write(compare={"depth": "1"}, put=put))
        return uuid_of(copy.volume_id)

    def _copy(self, name: str, source: pb.Volume) -> pb.Volume:
        copy = self._calls.create_until_done(name, 0, source=source)
        self._copies.append(copy)
        return copy

    def _cut_off_parent(self, number: int) -> str:
        """As a flatten is cut short that has copied all data and told the parent, and not yet the copy."""
        source = self._of(number)
        copy = self._copy(f"cut-off-{number}", source)
        image_id = self._id(image_named(copy))
        parent = self._pool.ancestry.find_parent(image_id)
        assert parent
        text = struct.pack("<I", len(image_id)) + image_id.encode()
        child = struct.pack("<q", self._pool.pool_id) + text + struct.pack("<I", 0)
        spec = struct.pack("<QBBI", parent.snap_id, 2, 1, len(child)) + child
        with rados.Rados(conffile=str(self._ceph.conf)) as cluster, cluster.open_ioctx("rbd") as ioctx:
            ioctx.execute(f"rbd_header.{parent.image_id}", "rbd", "child_detach", spec)
        self._pool.images.drop_trashed_snaps(parent.image_id)
        return uuid_of(copy.volume_id)

    def _unreadable_entry(self, number: int) -> str:
        return self._entry(VOLUMES, {"csi.volname": f"odd-{number}", "state": "odd"}, f"odd-{number}")

    def _missing_image(self, number: int) -> str:
        lost = self._calls.create(f"lost-{number}", MIB)
        self._lost.append(lost)
        self._pool.images.remove(image_named(lost))
        return uuid_of(lost.volume_id)

    def _missing_key(self, number: int) -> str:
        """As the Go driver leaves a volume, but for the key."""
        planted = plant_ceph_csi_volume(self._pool, f"keyless-{number}")
        put = {"csi.volume.encryptKMS": "default", "csi.volume.encryptionType": "block"}
        self._pool.objects.apply(VOLUMES.object(planted), Write(put=put))
        metadata = MetadataWrite({"rbd.csi.ceph.com/encrypted": "encrypted", "rbd.csi.ceph.com/dek": '{"dek": "'})
        self._pool.images.write_metadata(self._id(f"csi-vol-{planted}"), metadata)
        return planted

    def _missing_snap(self, number: int) -> str:
        source = self._of(number)
        lost = uuid_of(self._calls.snapshot_until_done(f"lost-snap-{number}", source.volume_id).snapshot_id)
        self._pool.images.remove_snap(self._id(image_named(source)), f"csi-snap-{lost}")
        return lost

    def _group(self, name: str) -> pb.VolumeGroupSnapshot:
        return group_until_done(self._calls, name, self._good[:2])

    def _missing_group(self, number: int) -> str:
        lost = uuid_of(self._group(f"lost-group-{number}").group_snapshot_id)
        self._pool.groups.remove(f"csi-vol-group-{lost}")
        return lost

    def _member_without_group(self, number: int) -> str:
        """Of each of both members; the RBD group is explained by nothing then."""
        group = self._group(f"ungrouped-{number}")
        lost = uuid_of(group.group_snapshot_id)
        self._remove_entry(GROUPS, lost, f"ungrouped-{number}")
        self._note(FindingClass.UNEXPLAINED_GROUP, f"csi-vol-group-{lost}")
        one, other = (uuid_of(member) for member in ids_of(group))
        self._note(FindingClass.MEMBER_WITHOUT_GROUP, one)
        return other

    def _unexplained_trash(self, _number: int) -> str:
        name = self._image(f"csi-vol-{uuid.uuid4()}")
        image_id = self._id(name)
        self._pool.images.move_to_trash(name)
        return image_id

    def _unexplained_group(self, number: int) -> str:
        """With a snap on a good volume, which has left it."""
        name, image = f"csi-vol-group-{uuid.uuid4()}", image_named(self._good[number % 2])
        self._pool.groups.create(name)
        self._pool.groups.add(name, self._pool, image)
        self._pool.groups.cut(name, "leftover")
        self._pool.groups.take_out(name, self._pool, image)
        return name

    def _nameless_header(self, number: int) -> str:
        """Of an image with data, and of one of which nothing else came to be."""
        if number % 2:
            image_id = f"{number:04}56789abcdef"
            self._pool.objects.apply(f"rbd_header.{image_id}", Write(create=Create.EXCLUSIVE))
            return image_id
        name = self._image(f"csi-vol-{uuid.uuid4()}")
        write(self._ceph, name, b"data")
        image_id = self._id(name)
        self._pool.objects.apply(f"rbd_id.{name}", Write(remove_object=True))
        self._pool.objects.apply("rbd_directory", Write(drop=(f"name_{name}", f"id_{image_id}")))
        return image_id

    def _stray_object_map(self, number: int) -> str:
        """Of an image, and of a snap."""
        name = f"{number:04}6789abcdef0" + (".0000000000000005" if number % 2 else "")
        self._pool.objects.apply(f"rbd_object_map.{name}", Write(create=Create.EXCLUSIVE))
        return name
