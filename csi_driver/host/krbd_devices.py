"""What the kernel's RBD client says in sysfs: the images that it has mapped, and the image features that it knows.

Touches no device; nothing here can hang but `refresh`. `root` is /sys, or a copy of a part of it in the unit tests.
(Linux: Documentation/ABI/testing/sysfs-bus-rbd)
"""

from dataclasses import dataclass
from pathlib import Path

from csi_driver.host.api import Attachment, Device

_FEATURE_BITS = {
    "layering": 1 << 0,
    "striping": 1 << 1,
    "exclusive-lock": 1 << 2,
    "object-map": 1 << 3,
    "fast-diff": 1 << 4,
    "deep-flatten": 1 << 5,
    "journaling": 1 << 6,
    "data-pool": 1 << 7,
    "operations": 1 << 8,
    "migrating": 1 << 9,
}
_BEFORE_IT_TOLD = 0b111
"""Kernels without the file know layering, striping and exclusive-lock at most."""


@dataclass(frozen=True)
class MappedImage:
    """One entry of /sys/bus/rbd/devices. is_head: not one of the image's snaps."""

    number: int
    spec: str
    is_head: bool
    is_read_only: bool
    device: Device

    def is_image_of(self, attachment: Attachment) -> bool:
        return self.is_head and self.spec == attachment.spec


class KrbdDevices:
    """The kernel client's mappings."""

    def __init__(self, root: Path = Path("/sys")) -> None:
        self._root = root
        self._bus = root / "bus/rbd"

    def is_there(self) -> bool:
        return (self._bus / "add_single_major").exists() or (self._bus / "add").exists()

    def mapped(self) -> list[MappedImage]:
        """In the order of their numbers."""
        entries = sorted((self._bus / "devices").glob("[0-9]*"), key=lambda path: int(path.name))
        return [image for image in map(self._read, entries) if image]

    def refresh(self, number: int) -> None:
        """Has the kernel read the image's header anew, and so its size. May wait for the cluster.

        Raises OSError: ESHUTDOWN when the cluster refuses this client (the blocklist), ENOENT when the image is gone.
        """
        (self._bus / "devices" / str(number) / "refresh").write_text("1", encoding="ascii")

    def unknown_features(self, features: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the features that this kernel does not know."""
        try:
            known = int((self._bus / "supported_features").read_text(encoding="ascii"), 16)
        except FileNotFoundError:
            known = _BEFORE_IT_TOLD
        return tuple(name for name in features if not _FEATURE_BITS.get(name, 0) & known)

    def _read(self, entry: Path) -> MappedImage | None:
        try:
            names = [_text(entry / name) for name in ("pool", "pool_ns", "name") if (entry / name).exists()]
            block = self._root / "block" / f"rbd{entry.name}"
            minor = _text(entry / "minor") if (entry / "minor").exists() else "0"
            return MappedImage(
                number=int(entry.name),
                spec="/".join(name for name in names if name),
                is_head=_text(entry / "current_snap") == "-",
                is_read_only=_text(block / "ro") == "1",
                device=Device(
                    Path(f"/dev/rbd{entry.name}"), f"{_text(entry / 'major')}:{minor}", int(_text(block / "size")) * 512
                ),
            )
        except FileNotFoundError:  # unmapped meanwhile
            return None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
