"""What a test of the node half holds in its hands: a served node half, requests for it, images, and a look at leftovers."""

import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc

from csi_driver.addresses import Credentials, ImageAddress
from csi_driver.dev.layout import DevCeph
from csi_driver.host import commands
from csi_driver.host.api import Attachment, Device
from csi_driver.host.mounts import LocalMounts
from csi_driver.pb import csi_pb2 as pb
from csi_driver.pb import csi_pb2_grpc
from csi_driver.rpc.gate import Gates
from csi_driver.rpc.node import KnownClusters, NodeInfo, NodeService
from csi_driver.rpc.server import Server
from tests.client import Driver, Refusal, refusal
from tests.node.images import PoolImages
from tests.node.killed_calls import KilledCalls
from tests.node.machine import Setting
from tests.node.traces import FuseTraces, traces

MIB = 1 << 20
WRITER = "SINGLE_NODE_WRITER"
SIZE_MIB = 320  # mkfs.xfs makes none below 300

Code = grpc.StatusCode


def capability(mode: str = WRITER, *, fs_type: str = "ext4", block: bool = False, flags: Sequence[str] = ()) -> Any:
    access = pb.VolumeCapability.AccessMode(mode=pb.VolumeCapability.AccessMode.Mode.Value(mode))
    if block:
        return pb.VolumeCapability(access_mode=access, block=pb.VolumeCapability.BlockVolume())
    mount = pb.VolumeCapability.MountVolume(fs_type=fs_type, mount_flags=flags)
    return pb.VolumeCapability(access_mode=access, mount=mount)


BLOCK = capability(block=True)
KINDS = {"ext4": capability(), "xfs": capability(fs_type="xfs"), "block": BLOCK}


class Bench:
    """One node half behind a socket, with a directory for the orchestrator's paths."""

    def __init__(self, ceph: DevCeph, directory: Path, attacher_name: str, killed_calls: KilledCalls) -> None:
        self.ceph = ceph
        self.directory = directory
        self._killed_calls = killed_calls
        self.setting = Setting(str(directory / "run"), (ceph.address,), attacher_name=attacher_name)
        self.traces = traces(attacher_name, self.setting.run_directory)
        self.user = "node"
        self._images: list[str] = []
        self.start()

    def start(self) -> None:
        self._server = Server(self.directory / "csi.sock", 60.0, [self._register])
        self._server.start()
        self._client = Driver(self.directory / "csi.sock")
        self.node = self._client.node

    def stop(self) -> None:
        self._client.close()
        self._server.stop(5)

    def restart(self, **changes: Any) -> None:
        """A new node half over what the old one left; `changes` of its setting."""
        self.stop()
        self.setting = replace(self.setting, **changes)
        self.start()

    def _register(self, server: grpc.Server) -> None:
        info = NodeInfo("node-1", 3, {"zone": "a"})
        service = NodeService(self.setting.operations(), info, Gates(), KnownClusters(lambda _cluster_id: True))
        csi_pb2_grpc.add_NodeServicer_to_server(service, server)

    # images

    def new_volume(self, *, size_mib: int = SIZE_MIB) -> str:
        volume_id = f"vol-{secrets.token_hex(4)}"
        self._pool_images.create(volume_id, size_mib * MIB)
        self._images.append(volume_id)
        return volume_id

    def resize(self, volume_id: str, size_mib: int) -> None:
        self._pool_images.resize(volume_id, size_mib * MIB)

    @property
    def _pool_images(self) -> PoolImages:
        return PoolImages(self.ceph, self.setting.pool, self.setting.rados_namespace)

    def image(self, volume_id: str) -> str:
        return "/".join(filter(None, (self.setting.pool, self.setting.rados_namespace, volume_id)))

    def attachment(self, volume_id: str, *, read_only: bool = False) -> Attachment:
        return Attachment(volume_id, self.setting.pool, self.setting.rados_namespace, volume_id, read_only)

    def address(self, volume_id: str) -> ImageAddress:
        credentials = Credentials(self.user, self.ceph.keys[self.user])
        setting = self.setting
        return ImageAddress(setting.monitors, credentials, setting.pool, setting.rados_namespace, volume_id)

    def on_device(self, volume_id: str, work: Callable[[Device], object]) -> None:
        """Do something to the image's content while it is not staged."""
        attacher, attachment = self.setting.attacher(), self.attachment(volume_id)
        device = attacher.attach(attachment, self.address(volume_id), ())
        try:
            work(device)
        finally:
            attacher.detach(attachment, ())

    def write(self, volume_id: str, offset: int, data: bytes) -> None:
        def work(device: Device) -> None:
            with device.path.open("r+b", buffering=0) as opened:
                opened.seek(offset)
                opened.write(data)
                os.fsync(opened.fileno())

        self.on_device(volume_id, work)

    def read(self, volume_id: str, offset: int, size: int) -> bytes:
        found = b""

        def work(device: Device) -> None:
            nonlocal found
            with device.path.open("rb", buffering=0) as opened:
                opened.seek(offset)
                found = opened.read(size)

        self.on_device(volume_id, work)
        return found

    # requests

    def staging(self, volume_id: str) -> Path:
        return self.directory / "staging" / volume_id

    def target(self, name: str = "pod-1") -> Path:
        path = self.directory / "pods" / name / "mount"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def stage_request(self, volume_id: str, wanted: Any = None, **context: str) -> pb.NodeStageVolumeRequest:
        path = self.staging(volume_id)
        path.mkdir(parents=True, exist_ok=True)
        return pb.NodeStageVolumeRequest(
            volume_id=volume_id,
            staging_target_path=str(path),
            volume_capability=wanted or capability(),
            volume_context=context,
            secrets=self.ceph.secrets(self.user),
        )

    def publish_request(
        self, volume_id: str, wanted: Any = None, *, name: str = "pod-1", readonly: bool = False
    ) -> pb.NodePublishVolumeRequest:
        return pb.NodePublishVolumeRequest(
            volume_id=volume_id,
            staging_target_path=str(self.staging(volume_id)),
            target_path=str(self.target(name)),
            volume_capability=wanted or capability(),
            readonly=readonly,
        )

    def unpublish_request(self, volume_id: str, name: str = "pod-1") -> pb.NodeUnpublishVolumeRequest:
        return pb.NodeUnpublishVolumeRequest(volume_id=volume_id, target_path=str(self.target(name)))

    def unstage_request(self, volume_id: str) -> pb.NodeUnstageVolumeRequest:
        return pb.NodeUnstageVolumeRequest(volume_id=volume_id, staging_target_path=str(self.staging(volume_id)))

    def stage(self, volume_id: str, wanted: Any = None, **context: str) -> None:
        self._settled(self.node.NodeStageVolume, self.stage_request(volume_id, wanted, **context))

    def publish(self, volume_id: str, wanted: Any = None, *, name: str = "pod-1", readonly: bool = False) -> Path:
        self._settled(
            self.node.NodePublishVolume, self.publish_request(volume_id, wanted, name=name, readonly=readonly)
        )
        return self.target(name)

    def unpublish(self, volume_id: str, name: str = "pod-1") -> None:
        self._settled(self.node.NodeUnpublishVolume, self.unpublish_request(volume_id, name))

    def unstage(self, volume_id: str) -> None:
        self._settled(self.node.NodeUnstageVolume, self.unstage_request(volume_id))

    def _settled(self, call: Callable[[Any], Any], request: object) -> None:
        refused = self._first_answer(call, request)
        assert not refused, refused

    def code(self, call: Callable[[Any], Any], request: object) -> Code:
        refused = refusal(call, request)
        return refused.code if refused else Code.OK

    def message(self, call: Callable[[Any], Any], request: object) -> str:
        refused = refusal(call, request)
        assert refused
        return refused.message

    def timed_code(self, call: Callable[[Any], Any], request: object, most_s: float) -> Code:
        began = time.monotonic()
        code = self.code(call, request)
        assert time.monotonic() - began < most_s
        return code

    def settled_code(self, call: Callable[[Any], Any], request: object) -> Code:
        refused = self._first_answer(call, request)
        return refused.code if refused else Code.OK

    def _first_answer(self, call: Callable[[Any], Any], request: object) -> Refusal | None:
        """But ABORTED, which says that the call goes on; None for OK."""
        deadline = time.monotonic() + 180
        while (refused := refusal(call, request)) and refused.code is Code.ABORTED:
            assert time.monotonic() < deadline, refused
            time.sleep(0.5)
        return refused

    def until_ok(self, call: Callable[[Any], Any], request: object) -> None:
        """Repeated as an orchestrator does."""
        deadline = time.monotonic() + 180
        while (code := self.code(call, request)) is not Code.OK:
            assert time.monotonic() < deadline, code
            time.sleep(0.5)

    def killed_call(self, request: Any, failpoint: str) -> None:
        """The request's RPC in another process, which a failpoint kills."""
        code = self._killed_calls.call(f"{failpoint}=kill", self.setting.text(), request)
        assert code == -signal.SIGKILL, f"{failpoint} was not reached: {self._killed_calls.said()}"

    # what is on this machine

    def daemons(self) -> list[int]:
        """Process ids of the storage daemons, of attacher fuse alone."""
        assert isinstance(self.traces, FuseTraces)
        return self.traces.daemons()

    def loops(self) -> list[str]:
        """Likewise."""
        assert isinstance(self.traces, FuseTraces)
        return self.traces.loops()

    def cut_off(self, volume_id: str) -> None:
        """By fencing, which leaves the device."""
        self._pool_images.cut_off(volume_id)

    def kill_device(self, volume_id: str) -> None:
        """As the kernel does when memory is short, or fencing. Its watch and lock go at once, not after half a minute."""
        self.traces.cut()
        self.cut_off(volume_id)

    def mounts(self) -> list[Path]:
        """Mounts of volumes; the daemons' own files are not among them."""
        run = Path(self.setting.run_directory)
        below = [mount.target for mount in LocalMounts().table() if mount.target.is_relative_to(self.directory)]
        return [target for target in below if not target.is_relative_to(run)]

    def is_whole(self, mounts: int) -> bool:
        """One attached image, and no mount too many."""
        return (len(self.traces.attached()), len(self.mounts())) == (self.traces.per_image(), mounts)

    def device_of(self, volume_id: str) -> Path:
        device = self.setting.attacher().find(self.attachment(volume_id))
        assert device
        return device.path

    def leftovers(self) -> list[str]:
        """All that is left of volumes on this machine; directories of the orchestrator and parents of targets are not."""
        files = self.traces.files()
        for volume_id in self._images:
            if self.staging(volume_id).exists():
                files += self.staging(volume_id).iterdir()
        files += (self.directory / "pods").glob("*/*")
        table = [mount.target for mount in LocalMounts().table() if mount.target.is_relative_to(self.directory)]
        return [str(one) for one in (*self.traces.attached(), *table, *files)]

    def clean(self) -> None:
        """As the orchestrator does at the end: unpublish everywhere, unstage."""
        for pod in (self.directory / "pods").glob("*"):
            for volume_id in self._images:
                refusal(self.node.NodeUnpublishVolume, self.unpublish_request(volume_id, pod.name))
        for volume_id in self._images:
            self.unstage(volume_id)

    def force_clean(self) -> None:
        """After a failed test: nothing of it stays on the machine."""
        for target in reversed(self.mounts()):
            commands.run(["umount", "-l", str(target)], timeout_s=20, ok=None)
        self.traces.force_clean()

    def remove_images(self) -> None:
        for volume_id in self._images:
            self._pool_images.remove(volume_id)
