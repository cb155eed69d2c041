"""`rbd-csi audit` and `rbd-csi repair`: every class of leftover is found among good volumes, nothing else, and mended."""

import json
import subprocess
import sys
import uuid
from collections.abc import Callable

import pytest

from csi_driver.ceph.api import Create, Pool, Write
from csi_driver.dev.layout import DevCeph
from csi_driver.operations.audit.findings import ABOUT, FindingClass
from csi_driver.pb import csi_pb2 as pb
from tests import image_data
from tests.controller.calls import Calls
from tests.controller.test_ceph_csi import plant_ceph_csi_volume

pytestmark = pytest.mark.usefixtures("clean_pool")

_K, _D = "csi.volumes.default", "deleted."
_ENDED_S = 120


def rbd_csi(ceph: DevCeph, *command: str, cluster: str = "dev") -> "subprocess.CompletedProcess[str]":
    scope = ("--clusters", str(ceph.config_json), "--cluster", cluster, "--pool", "rbd", "--settle", "1")
    return subprocess.run(
        [sys.executable, "-m", "csi_driver", *command, *scope],
        capture_output=True,
        text=True,
        timeout=_ENDED_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def audit(ceph: DevCeph) -> dict[str, list[str]]:
    """Names by class."""
    ended = rbd_csi(ceph, "audit", "--format", "json")
    found: dict[str, list[str]] = {}
    for one in json.loads(ended.stdout):
        found.setdefault(one["class"], []).append(one["name"])
    assert ended.returncode == (1 if found else 0), ended.stderr
    return found


def entry(pool: Pool, keys: dict[str, str], *, name: str = "") -> str:
    """A planted entry, with its name's key where it has a name: its uuid."""
    planted = str(uuid.uuid4())
    pool.objects.apply(f"csi.volume.{planted}", Write(create=Create.EXCLUSIVE, put=keys))
    if name:
        pool.objects.apply(_K, Write(create=Create.ENSURE, put={f"csi.volume.{name}": planted}))
    return planted


class Planter:
    """Makes each class of leftover once; the name under which the audit tells it."""

    def __init__(self, ceph: DevCeph, pool: Pool, calls: Calls, good: pb.Volume) -> None:
        self._ceph = ceph
        self._pool = pool
        self._calls = calls
        self._good = f"csi-vol-{good.volume_id[-36:]}"
        self._good_volume = good
        self.to_delete: list[pb.Volume] = []

    def all(self) -> dict[str, str]:
        planters: dict[FindingClass, Callable[[], str]] = {
            FindingClass.NAME_WITHOUT_ENTRY: self._name_without_entry,
            FindingClass.ENTRY_WITHOUT_NAME: self._entry_without_name,
            FindingClass.UNFINISHED_CREATE: self._unfinished_create,
            FindingClass.EMPTY_ENTRY: lambda: entry(self._pool, {"csi.volname": "gone"}),
            FindingClass.DELETED_WITHOUT_ENTRY: self._deleted_without_entry,
            FindingClass.TEMPORARY_SNAP: lambda: self._snap("csi-clone-"),
            FindingClass.WRONG_DEPTH: self._wrong_depth,
            FindingClass.UNREADABLE_ENTRY: lambda: entry(
                self._pool, {"csi.volname": "odd", "state": "odd"}, name="odd"
            ),
            FindingClass.MISSING_IMAGE: self._missing_image,
            FindingClass.MISSING_SNAP: self._missing_snap,
            FindingClass.UNEXPLAINED_IMAGE: lambda: self._image(""),
            FindingClass.UNEXPLAINED_SNAP: lambda: self._snap("csi-snap-"),
            FindingClass.UNEXPLAINED_TRASH: self._unexplained_trash,
            FindingClass.TEMPORARY_IMAGE: lambda: self._image("-temp"),
            FindingClass.NAMELESS_HEADER: self._nameless_header,
        }
        return {str(what): plant() for what, plant in planters.items()}

    def _name_without_entry(self) -> str:
        self._pool.objects.apply(_K, Write(create=Create.ENSURE, put={"csi.volume.ghost": str(uuid.uuid4())}))
        return "ghost"

    def _entry_without_name(self) -> str:
        planted = plant_ceph_csi_volume(self._pool, "theirs")
        self._pool.objects.apply(_K, Write(drop=("csi.volume.theirs",)))
        return planted

    def _unfinished_create(self) -> str:
        keys = {"state": "making", "maker": "127.0.0.1:0/1", "made_at": "1000", "csi.volname": "begun"}
        planted = entry(self._pool, keys, name="begun")
        self._ceph.rbd("create", "--size", "1M", f"rbd/csi-vol-{planted}")
        return planted

    def _deleted_without_entry(self) -> str:
        planted = str(uuid.uuid4())
        self._pool.objects.apply(_K, Write(create=Create.ENSURE, put={f"{_D}{planted}": ""}))
        return planted

    def _snap(self, prefix: str) -> str:
        name = f"{self._good}@{prefix}{uuid.uuid4()}"
        self._ceph.rbd("snap", "create", "--no-progress", f"rbd/{name}")
        return name

    def _wrong_depth(self) -> str:
        copy = self._calls.create("deep", source=self._good_volume)
        self.to_delete.append(copy)
        planted = copy.volume_id[-36:]
        self._pool.objects.apply(f"csi.volume.{planted}", Write(compare={"depth": "1"}, put={"depth": "0"}))
        return planted

    def _missing_image(self) -> str:
        lost = self._calls.create("lost")
        self.to_delete.append(lost)
        self._ceph.rbd("rm", "--no-progress", f"rbd/csi-vol-{lost.volume_id[-36:]}")
        return lost.volume_id[-36:]

    def _missing_snap(self) -> str:
        snapshot = self._calls.snapshot("lost-snap", self._good_volume.volume_id)
        self._ceph.rbd("snap", "rm", "--no-progress", f"rbd/{self._good}@csi-snap-{snapshot.snapshot_id[-36:]}")
        return snapshot.snapshot_id[-36:]

    def _image(self, suffix: str) -> str:
        name = f"csi-vol-{uuid.uuid4()}{suffix}"
        self._ceph.rbd("create", "--size", "1M", f"rbd/{name}")
        return name

    def _unexplained_trash(self) -> str:
        name = self._image("")
        image_id = self._pool.images.find_id(name)
        assert image_id
        self._pool.images.move_to_trash(name)
        return image_id

    def _nameless_header(self) -> str:
        self._pool.objects.apply("rbd_header.0123456789ab", Write(create=Create.EXCLUSIVE))
        return "0123456789ab"


def test_every_class_of_leftover_is_found_and_mended_among_good_volumes(
    ceph_dev: DevCeph, calls: Calls, pool: Pool
) -> None:
    """Of what was planted each once, in two steps: what the journal explains by itself, the rest when it is named."""
    source = calls.create("source")
    image_data.write(ceph_dev, f"csi-vol-{source.volume_id[-36:]}", b"good data")
    snapshot = calls.snapshot("kept", source.volume_id)
    good = [source, calls.create("restored", source=snapshot), calls.create("cloned", source=source)]
    good += [calls.create(f"good-{number}") for number in range(5)]
    assert audit(ceph_dev) == {}

    planter = Planter(ceph_dev, pool, calls, good[3])
    planted = planter.all()
    found = audit(ceph_dev)
    assert found == {what: [name] for what, name in planted.items()}

    refused = rbd_csi(ceph_dev, "repair")  # nobody says yes
    assert refused.returncode == 130
    assert audit(ceph_dev) == found
    rbd_csi(ceph_dev, "repair", "--yes")
    left = {what for what in planted if ABOUT[FindingClass(what)].is_named_only or not ABOUT[FindingClass(what)].remedy}
    assert audit(ceph_dev) == {what: names for what, names in found.items() if what in left}
    named = [word for what in left for word in ("--name", planted[what])]
    rbd_csi(ceph_dev, "repair", "--yes", *named)
    unmended = {str(what) for what, about in ABOUT.items() if not about.remedy} & planted.keys()
    assert set(audit(ceph_dev)) == unmended == {"unreadable-entry", "missing-image", "nameless-header"}

    sources: dict[str, pb.Volume | pb.Snapshot | None] = {"source": None, "restored": snapshot, "cloned": source}
    for name, copied in sources.items():
        volume = calls.create(name, source=copied)
        assert image_data.read(ceph_dev, f"csi-vol-{volume.volume_id[-36:]}", 9) == b"good data"
    pool.objects.apply("rbd_header.0123456789ab", Write(remove_object=True))
    pool.objects.apply(f"csi.volume.{planted['unreadable-entry']}", Write(remove_object=True))
    pool.objects.apply(_K, Write(drop=("csi.volume.odd",)))
    ceph_dev.rbd("create", "--size", "1M", f"rbd/csi-vol-{planted['missing-image']}")
    theirs = calls.create("theirs")  # its name leads to it again
    assert theirs.volume_id[-36:] == planted["entry-without-name"]
    assert calls.delete_snapshot(snapshot.snapshot_id) is None
    for volume in (*good, *planter.to_delete, theirs):
        calls.delete_until_done(volume.volume_id)


def test_an_unknown_class_and_an_unknown_pool_are_told_with_what_is_known(ceph_dev: DevCeph) -> None:
    ended = rbd_csi(ceph_dev, "repair", "--only", "nonsense")
    assert ended.returncode == 2
    assert "nonsense" in ended.stderr
    assert "name-without-entry" in ended.stderr
    ended = rbd_csi(ceph_dev, "audit", cluster="nowhere")
    assert ended.returncode == 2
    assert "nowhere" in ended.stderr
