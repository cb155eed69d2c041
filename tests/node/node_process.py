"""A node half as a process of its own, and a kubelet's calls of it."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from csi_driver.pb import csi_pb2 as pb
from tests.client import refusal
from tests.controller.calls import UNFINISHED
from tests.driver import DriverProcess

REPEAT_S = 180.0


@dataclass
class Node:
    """A node process, with a driver's name, and so a run directory, of its own."""

    driver: DriverProcess
    directory: Path
    secrets: dict[str, str] = field(repr=False)
    used: list[tuple[str, str]] = field(default_factory=list)

    def use(self, volume: pb.Volume, wanted: Any, *, name: str) -> Path:
        """Staged and published; where."""
        staging, target = self.directory / f"staging-{name}", self.directory / f"pod-{name}"
        staging.mkdir(exist_ok=True)
        self.used.append((volume.volume_id, name))
        self.call(self.driver.rpc.node.NodeStageVolume, self.stage_request(volume, wanted, staging))
        publish = pb.NodePublishVolumeRequest(
            volume_id=volume.volume_id,
            staging_target_path=str(staging),
            target_path=str(target),
            volume_capability=wanted,
        )
        self.call(self.driver.rpc.node.NodePublishVolume, publish)
        return target

    def stage_request(self, volume: pb.Volume, wanted: Any, staging: Path) -> pb.NodeStageVolumeRequest:
        return pb.NodeStageVolumeRequest(
            volume_id=volume.volume_id,
            staging_target_path=str(staging),
            volume_capability=wanted,
            volume_context=dict(volume.volume_context),
            secrets=self.secrets,
        )

    def leave(self) -> None:
        node = self.driver.rpc.node
        for volume_id, name in reversed(self.used):
            target, staging = self.directory / f"pod-{name}", self.directory / f"staging-{name}"
            self.call(
                node.NodeUnpublishVolume, pb.NodeUnpublishVolumeRequest(volume_id=volume_id, target_path=str(target))
            )
            unstage = pb.NodeUnstageVolumeRequest(volume_id=volume_id, staging_target_path=str(staging))
            self.call(node.NodeUnstageVolume, unstage)

    def call(self, method: Any, request: Any) -> None:
        """Repeated as kubelet does, while the answer says that something goes on."""
        deadline = time.monotonic() + REPEAT_S
        while refused := refusal(method, request):
            assert refused.code in UNFINISHED, refused
            assert time.monotonic() < deadline, refused
            time.sleep(0.1)

    @property
    def replays(self) -> int:
        return self.driver.log_text().count("the journal of a file system was replayed")
