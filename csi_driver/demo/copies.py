"""The demonstration's snapshot and copies, and the tree of parents that they make."""

import json

from rich.tree import Tree

from csi_driver.demo.client import Client, Refused
from csi_driver.demo.place import Place
from csi_driver.demo.volume import POOL, Origin, Volume
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb

_SNAPSHOT_NAME = "snapshot-demo"


class Snapshot:
    """The calls on a snapshot of the volume; `id` and `is_begun` as with a volume."""

    def __init__(self, client: Client, ceph: DevCeph, place: Place, source: Volume) -> None:
        self._client = client
        self._secrets = ceph.secrets("provisioner")
        self._place = place
        self._source = source
        self.is_begun = place.volume_file.exists()
        self.id = place.volume_file.read_text() if self.is_begun else ""

    def create(self) -> str:
        self._place.prepare_paths()
        self._place.volume_file.touch()
        self.is_begun = True
        request = pb.CreateSnapshotRequest(name=_SNAPSHOT_NAME, source_volume_id=self._source.id, secrets=self._secrets)
        self.id = self._client.call(self._client.controller.CreateSnapshot, request).snapshot.snapshot_id
        self._place.volume_file.write_text(self.id)
        return self.id

    def delete(self) -> None:
        request = pb.DeleteSnapshotRequest(snapshot_id=self.id, secrets=self._secrets)
        self._client.call(self._client.controller.DeleteSnapshot, request)
        self.is_begun = False


class Copies:
    """A snapshot of one volume, what is restored from it, and a clone of the volume."""

    def __init__(self, client: Client, ceph: DevCeph, place: Place, source: Volume) -> None:
        self._ceph = ceph
        self._source = source
        self.places = tuple(place.of_copy(name) for name in ("snapshot", "restored", "clone", "flat"))
        at_snapshot, at_restored, at_clone, at_flat = self.places
        self.snapshot = Snapshot(client, ceph, at_snapshot, source)
        restore, clone = Origin(self._of_snapshot), Origin(self._of_volume)
        self.restored = Volume(client, ceph, at_restored, "pvc-demo-restored", restore)
        self.clone = Volume(client, ceph, at_clone, "pvc-demo-clone", clone)
        self.flat = Volume(client, ceph, at_flat, "pvc-demo-flat", Origin(self._of_snapshot, flatten="always"))
        self.volumes = (self.restored, self.clone, self.flat)

    def clear(self) -> list[str]:
        """Leave nothing of them, however far they came; the ids of what was deleted."""
        deleted = []
        for volume in (one for one in self.volumes if one.is_begun):
            try:
                deleted.append(volume.id or volume.create())
            except Refused:
                continue  # it was never made, and what it would have been made of is gone
            volume.unpublish()
            volume.unstage()
            volume.delete()
        if self.snapshot.is_begun:
            deleted.append(self.snapshot.id or self.snapshot.create())
            self.snapshot.delete()
        return deleted

    def tree(self) -> Tree:
        """Which image reads on in which other one, as Ceph says it; images by the names of their volumes."""
        names = {volume.image: volume.name for volume in (self._source, *self.volumes) if volume.image}
        rows = json.loads(self._ceph.rbd("ls", "--long", "--format", "json", POOL))
        images = [row for row in rows if "snapshot" not in row and row["image"] in names]
        tree = Tree("images")
        branches = {row["image"]: tree.add(names[row["image"]]) for row in images if "parent" not in row}
        for row in images:
            if parent := row.get("parent"):
                branch = branches.get(parent["image"], tree)
                branch.add(f"{names[row['image']]}  (of {parent['snapshot'][:18]}…)")
        return tree

    def is_flat(self) -> bool:
        return "parent" not in json.loads(self._ceph.rbd("info", "--format", "json", f"{POOL}/{self.flat.image}"))

    def _of_snapshot(self) -> pb.VolumeContentSource:
        source = pb.VolumeContentSource.SnapshotSource(snapshot_id=self.snapshot.id)
        return pb.VolumeContentSource(snapshot=source)

    def _of_volume(self) -> pb.VolumeContentSource:
        return pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource(volume_id=self._source.id))
