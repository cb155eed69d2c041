"""Controller calls of the tests, on one driver and as one Ceph user; a refusal is a value, not an exception."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import grpc

from csi_driver.pb import csi_pb2 as pb
from tests.client import Driver, Refusal, refusal_of
from tests.rpc.valid_requests import GIB, mounted

UNFINISHED = (grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE)


@dataclass(frozen=True)
class Calls:
    """One caller of one driver."""

    driver: Driver
    secrets: Mapping[str, str] = field(repr=False)
    parameters: Mapping[str, str] = field(default_factory=lambda: {"clusterID": "dev", "pool": "rbd"})

    def create(
        self,
        name: str,
        size_bytes: int = GIB,
        *,
        limit_bytes: int = 0,
        capability: pb.VolumeCapability | None = None,
        parameters: Mapping[str, str] = MappingProxyType({}),
        mutable: Mapping[str, str] = MappingProxyType({}),
        source: pb.Volume | pb.Snapshot | None = None,
    ) -> pb.Volume:
        """A new volume, empty or a copy of `source`. Raises grpc.RpcError."""
        request = pb.CreateVolumeRequest(
            name=name,
            capacity_range=pb.CapacityRange(required_bytes=size_bytes, limit_bytes=limit_bytes),
            volume_capabilities=[capability or mounted()],
            parameters={**self.parameters, **parameters},
            mutable_parameters=mutable,
            secrets=self.secrets,
        )
        if isinstance(source, pb.Snapshot):
            request.volume_content_source.snapshot.snapshot_id = source.snapshot_id
        elif source is not None:
            request.volume_content_source.volume.volume_id = source.volume_id
        return self.driver.controller.CreateVolume(request, timeout=120).volume

    def try_create(self, name: str, size_bytes: int = GIB, **options: Any) -> pb.Volume | Refusal:
        try:
            return self.create(name, size_bytes, **options)
        except grpc.RpcError as error:
            return refusal_of(error)

    def create_until_done(self, name: str, size_bytes: int = GIB, **options: Any) -> pb.Volume:
        """Repeated as a sidecar does, while the answer says that something goes on."""
        while True:
            answer = self.try_create(name, size_bytes, **options)
            if isinstance(answer, pb.Volume):
                return answer
            assert answer.code in UNFINISHED, answer

    def refused_at_last(self, name: str, **options: Any) -> Refusal:
        """The refusal that ends a create. What clears an entry away behind the answers holds its name meanwhile: ABORTED."""
        while True:
            answer = self.try_create(name, **options)
            assert isinstance(answer, Refusal), answer
            if answer.code not in UNFINISHED:
                return answer

    def delete(self, volume_id: str) -> Refusal | None:
        request = pb.DeleteVolumeRequest(volume_id=volume_id, secrets=self.secrets)
        try:
            self.driver.controller.DeleteVolume(request, timeout=120)
        except grpc.RpcError as error:
            return refusal_of(error)
        return None

    def delete_until_done(self, volume_id: str) -> None:
        while answer := self.delete(volume_id):
            assert answer.code in UNFINISHED, answer

    def snapshot(self, name: str, volume_id: str) -> pb.Snapshot:
        """Raises grpc.RpcError."""
        request = pb.CreateSnapshotRequest(name=name, source_volume_id=volume_id, secrets=self.secrets)
        return self.driver.controller.CreateSnapshot(request, timeout=120).snapshot

    def try_snapshot(self, name: str, volume_id: str) -> pb.Snapshot | Refusal:
        try:
            return self.snapshot(name, volume_id)
        except grpc.RpcError as error:
            return refusal_of(error)

    def snapshot_until_done(self, name: str, volume_id: str) -> pb.Snapshot:
        while True:
            answer = self.try_snapshot(name, volume_id)
            if isinstance(answer, pb.Snapshot):
                return answer
            assert answer.code in UNFINISHED, answer

    def delete_snapshot(self, snapshot_id: str) -> Refusal | None:
        request = pb.DeleteSnapshotRequest(snapshot_id=snapshot_id, secrets=self.secrets)
        try:
            self.driver.controller.DeleteSnapshot(request, timeout=120)
        except grpc.RpcError as error:
            return refusal_of(error)
        return None

    def delete_snapshot_until_done(self, snapshot_id: str) -> None:
        while answer := self.delete_snapshot(snapshot_id):
            assert answer.code in UNFINISHED, answer

    def modify(self, volume_id: str, **mutable: str) -> Refusal | None:
        request = pb.ControllerModifyVolumeRequest(
            volume_id=volume_id, mutable_parameters=mutable, secrets=self.secrets
        )
        try:
            self.driver.controller.ControllerModifyVolume(request, timeout=120)
        except grpc.RpcError as error:
            return refusal_of(error)
        return None

    def modify_until_done(self, volume_id: str, **mutable: str) -> None:
        while answer := self.modify(volume_id, **mutable):
            assert answer.code in UNFINISHED, answer

    def expand(self, volume_id: str, size_bytes: int, limit_bytes: int = 0) -> int | Refusal:
        """Bytes afterwards."""
        request = pb.ControllerExpandVolumeRequest(
            volume_id=volume_id,
            capacity_range=pb.CapacityRange(required_bytes=size_bytes, limit_bytes=limit_bytes),
            secrets=self.secrets,
        )
        try:
            return self.driver.controller.ControllerExpandVolume(request, timeout=120).capacity_bytes
        except grpc.RpcError as error:
            return refusal_of(error)


def handle_parts(volume_id: str) -> tuple[str, int, str]:
    """Cluster id, pool id and uuid of a handle whose cluster id has no '-'."""
    _, _, cluster_id, pool_id, volume_uuid = volume_id.split("-", 4)
    return cluster_id, int(pool_id, 16), volume_uuid
