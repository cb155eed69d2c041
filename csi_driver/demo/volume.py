"""One volume as an orchestrator handles it: the calls in their order, each one as the sidecars and the kubelet make it.

The controller's calls act as the cluster's user `provisioner`, the node's as `node`; client.admin appears nowhere.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from csi_driver.demo.client import Client, Refused
from csi_driver.demo.place import Place
from csi_driver.dev.layout import GIB, DevCeph
from csi_driver.host.commands import run
from csi_driver.pb import csi_pb2 as pb

NAME = "pvc-demo"
FIRST_BYTES, GROWN_BYTES = GIB, 2 * GIB
POOL = "rbd"
FILE = "hello.bin"
_FILE_BYTES = 32 << 20
_CAP_SYS_RESOURCE = 24


def choose_fs_type() -> str:
    """ext4, unless this process may not grow a mounted one: then xfs, which asks for less."""
    status = Path("/proc/self/status").read_text()
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    return "ext4" if effective >> _CAP_SYS_RESOURCE & 1 else "xfs"


@dataclass(frozen=True)
class Origin:
    """What a copy is made of, asked for when it is made; and when its image is cut off from its parent."""

    source: Callable[[], pb.VolumeContentSource]
    flatten: str = "lazy"


class Volume:
    """The calls on one volume. `id` is empty until `create` has answered, after `is_begun` at any time."""

    def __init__(
        self, client: Client, ceph: DevCeph, place: Place, name: str = NAME, origin: Origin | None = None
    ) -> None:
        """`origin`: of a copy."""
        self.name = name
        self._origin = origin
        self._client = client
        self._place = place
        self._as_controller, self._as_node = ceph.secrets("provisioner"), ceph.secrets("node")
        self._context: dict[str, str] = {}
        self.fs_type = choose_fs_type()
        self.is_begun = place.volume_file.exists()
        self.id = place.volume_file.read_text() if self.is_begun else ""

    def create(self) -> str:
        request = pb.CreateVolumeRequest(
            name=self.name,
            capacity_range=pb.CapacityRange(required_bytes=0 if self._origin else FIRST_BYTES),
            volume_capabilities=[self._capability()],
            parameters={"clusterID": "dev", "pool": POOL},
            secrets=self._as_controller,
        )
        if self._origin:
            request.volume_content_source.CopyFrom(self._origin.source())
            request.parameters["flatten"] = self._origin.flatten
        if not self.is_begun:
            self.is_begun = True
            self._place.prepare_paths()
            self._place.volume_file.touch()
        try:
            volume = self._client.call(self._client.controller.CreateVolume, request).volume
        except Refused:
            self.is_begun = bool(self.id)
            raise
        self._context = dict(volume.volume_context)
        self._place.volume_file.write_text(volume.volume_id)
        self.id = volume.volume_id
        return self.id

    @property
    def image(self) -> str:
        """The image's name in the pool; empty before `create` has answered."""
        return self._context.get("imageName", "")

    def stage(self) -> None:
        request = pb.NodeStageVolumeRequest(
            volume_id=self.id,
            staging_target_path=str(self._place.staging),
            volume_capability=self._capability(),
            secrets=self._as_node,
            volume_context=self._context,
        )
        self._client.call(self._client.node.NodeStageVolume, request)

    def publish(self) -> None:
        request = pb.NodePublishVolumeRequest(
            volume_id=self.id,
            staging_target_path=str(self._place.staging),
            target_path=str(self._place.target),
            volume_capability=self._capability(),
            volume_context=self._context,
        )
        self._client.call(self._client.node.NodePublishVolume, request)

    def expand(self) -> int:
        """The image's size."""
        request = pb.ControllerExpandVolumeRequest(
            volume_id=self.id,
            capacity_range=pb.CapacityRange(required_bytes=GROWN_BYTES),
            volume_capability=self._capability(),
            secrets=self._as_controller,
        )
        return self._client.call(self._client.controller.ControllerExpandVolume, request).capacity_bytes

    def expand_on_node(self) -> int:
        """The device's size, its file system grown with it."""
        request = pb.NodeExpandVolumeRequest(
            volume_id=self.id,
            volume_path=str(self._place.target),
            staging_target_path=str(self._place.staging),
            capacity_range=pb.CapacityRange(required_bytes=GROWN_BYTES),
            volume_capability=self._capability(),
        )
        return self._client.call(self._client.node.NodeExpandVolume, request).capacity_bytes

    def unpublish(self) -> None:
        request = pb.NodeUnpublishVolumeRequest(volume_id=self.id, target_path=str(self._place.target))
        self._client.call(self._client.node.NodeUnpublishVolume, request)

    def unstage(self) -> None:
        request = pb.NodeUnstageVolumeRequest(volume_id=self.id, staging_target_path=str(self._place.staging))
        self._client.call(self._client.node.NodeUnstageVolume, request)

    def delete(self) -> None:
        request = pb.DeleteVolumeRequest(volume_id=self.id, secrets=self._as_controller)
        self._client.call(self._client.controller.DeleteVolume, request)

    def write_file(self) -> str:
        """Write random bytes through to Ceph; their SHA-256."""
        content = os.urandom(_FILE_BYTES)
        with (self._place.target / FILE).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return hashlib.sha256(content).hexdigest()

    def checksum(self) -> str:
        """SHA-256 of the file, read from Ceph and not from this machine's page cache."""
        with (self._place.target / FILE).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return hashlib.file_digest(file, "sha256").hexdigest()

    def df(self) -> dict[str, str]:
        """What df(1) says of the pod's file system, by column."""
        argv = ("df", "-h", "--output=source,fstype,size,used,avail", str(self._place.target))
        titles, values = run(argv, timeout_s=10).stdout.splitlines()
        return dict(zip(titles.lower().split(), values.split(), strict=True))

    def _capability(self) -> pb.VolumeCapability:
        return pb.VolumeCapability(
            mount=pb.VolumeCapability.MountVolume(fs_type=self.fs_type),
            access_mode=pb.VolumeCapability.AccessMode(mode=pb.VolumeCapability.AccessMode.SINGLE_NODE_WRITER),
        )
