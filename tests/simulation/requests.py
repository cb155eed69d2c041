"""Requests of the history as the driver gets them."""

from csi_driver.model import (
    CapacityRange,
    FlattenPolicy,
    ImageLayout,
    SnapshotSpec,
    SourceKind,
    VolumeSource,
    VolumeSpec,
)
from tests.simulation import steps as do
from tests.simulation.model import Known, KnownSnapshot, KnownVolume
from tests.simulation.world import World

FULL = ("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten")
PLAIN = ("layering", "exclusive-lock")

SOFT_DEPTH, HARD_DEPTH = 1, 3


def volume_spec(world: World, name: str, action: do.Create, source: Known | None) -> VolumeSpec:
    """A copy asks for its source's size, or for more."""
    blocks = do.BLOCKS if source is None else (len(source.content) + 1 if action.extra_blocks else 0)
    size_bytes = blocks * world.block_bytes
    copied = None
    if source is not None:
        kind = SourceKind.SNAPSHOT if isinstance(source, KnownSnapshot) else SourceKind.VOLUME
        copied = VolumeSource(kind, source.handle)
        if isinstance(source, KnownVolume) and size_bytes:
            size_bytes = max(size_bytes, *source.sizes_bytes)
    return VolumeSpec(
        name=name,
        cluster_id=world.key.cluster_id,
        pool=world.pool.name,
        capacity=CapacityRange(size_bytes),
        size_bytes=size_bytes,
        capabilities=(),
        layout=ImageLayout(FULL if action.has_deep_flatten else PLAIN),
        source=copied,
        kms_id=world.kms.kms_id if world.kms else "",
        flatten=FlattenPolicy(action.mode, soft_depth=SOFT_DEPTH, hard_depth=HARD_DEPTH),
    )


def snapshot_spec(name: str, source_handle: str) -> SnapshotSpec:
    return SnapshotSpec(name, source_handle)
