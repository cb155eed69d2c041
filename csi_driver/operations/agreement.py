"""What a CreateVolume agreed on, as the journal keeps it, and in what a later request of the same name differs."""

from collections.abc import Mapping
from typing import Any

from csi_driver.journal.entries import VolumeEntry
from csi_driver.model import VolumeSpec


def agreed(spec: VolumeSpec) -> dict[str, Any]:
    """The request without its size, which the entry keeps apart since it grows."""
    layout = {**vars(spec.layout), "features": sorted(spec.layout.features)}
    topology = {"topology": dict(spec.topology)} if spec.topology else {}
    return topology | {
        "capabilities": sorted(str(one) for one in spec.capabilities),
        "layout": layout,
        "imagePrefix": spec.image_prefix,
        "context": dict(spec.context),
        "source": dict(vars(spec.source)) if spec.source else None,
        "flatten": dict(vars(spec.flatten)),
        **({"cloneFormat": spec.clone_format.value} if spec.clone_format else {}),
    }


def difference(spec: VolumeSpec, entry: VolumeEntry) -> str:
    """In what the request differs from the volume that has its name; empty when it is the same volume.

    Sizes agree when the volume's is within the range asked for (CSI: CreateVolume, "incompatible"). An entry of ceph-csi
    records only what is compared elsewhere.
    """
    parts = []
    if entry.size_bytes and not spec.capacity.holds(entry.size_bytes):
        wanted = spec.capacity
        limit = f" and at most {wanted.limit_bytes}" if wanted.limit_bytes else ""
        parts.append(f"it has {entry.size_bytes} bytes, asked for are at least {wanted.required_bytes}{limit}")
    if entry.request is not None and (wanted_now := agreed(spec)) != entry.request:
        parts += _differing(entry.request, wanted_now)
    return "; ".join(parts)


def _differing(had: Mapping[str, Any], wanted: Mapping[str, Any], path: str = "") -> list[str]:
    """One part for each value that differs, by its path; keys that only one side has differ too."""
    parts: list[str] = []
    for key in sorted(had.keys() | wanted.keys()):
        old, new, name = had.get(key), wanted.get(key), f"{path}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            parts += _differing(old, new, f"{name}.")
        elif (list(old) if isinstance(old, tuple) else old) != (list(new) if isinstance(new, tuple) else new):
            parts.append(f"{name} is {old!r}, asked for is {new!r}")
    return parts
