"""The node half as the tests of this directory run it: real attacher, mounts and file systems, volumes that are known.

`one_call.py` builds the same in a process of its own, from the JSON that `Setting.text` gives, to be killed there.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

from csi_driver.addresses import Credentials, ImageAddress, StaticImage
from csi_driver.errors import NotFound
from csi_driver.host.api import Attacher, Machine
from csi_driver.host.filesystems import LocalFilesystems
from csi_driver.host.fuse import FuseAttacher
from csi_driver.host.krbd import KrbdAttacher
from csi_driver.host.luks import LocalLuks
from csi_driver.host.mounts import LocalMounts
from csi_driver.host.nbd import NbdAttacher
from csi_driver.host.pod_limits import CgroupLimits
from csi_driver.kms.entries import KmsFile
from csi_driver.locks import KeyedLocks
from csi_driver.model import ImageTraits, StagedVolume
from csi_driver.mutable import NO_LIMITS, DeviceLimits
from csi_driver.operations.node import NodeOperations
from csi_driver.operations.stage_parts import FoundEncryption
from csi_driver.operations.volume_keys import KeptKey, VolumeKeys
from csi_driver.orchestrator.kubernetes_secrets import read_secret

_ATTACHERS: dict[str, Callable[[Path], Attacher]] = {"fuse": FuseAttacher, "krbd": KrbdAttacher, "nbd": NbdAttacher}


@dataclass(frozen=True)
class KnownVolumes:
    """A locator that knows every volume whose id begins with `vol-`: its image has the same name."""

    monitors: tuple[str, ...]
    pool: str
    rados_namespace: str
    uses: str
    limits: DeviceLimits = NO_LIMITS

    def locate(self, volume_id: str, credentials: Credentials | None) -> StagedVolume:
        if not volume_id.startswith("vol-") or not credentials:
            raise NotFound(f"there is no volume {volume_id!r}")
        address = ImageAddress(self.monitors, credentials, self.pool, self.rados_namespace, volume_id)
        as_rbd_makes_them = ("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten")
        traits = ImageTraits(as_rbd_makes_them, self.limits)
        return StagedVolume(volume_id, address, 0, traits)

    def locate_static(self, image: StaticImage, credentials: Credentials | None) -> StagedVolume:
        """The images of such volumes are in the same pool."""
        return self.locate(image.name, credentials)

    def await_closed(self, volume_id: str, static: StaticImage | None, credentials: Credentials | None) -> None:
        """As `only_writer`."""

    def encryption(
        self, volume_id: str, static: StaticImage | None, credentials: Credentials | None
    ) -> FoundEncryption:
        """By files beside the run directory's: images of these tests have no entry."""
        self.locate(volume_id, credentials)
        kept = Path(self.uses) / f"{volume_id}.dek"
        key = KeptKey(volume_id, "", kept.read_text() if kept.exists() else "")
        return FoundEncryption(key, is_unused=not (Path(self.uses) / volume_id).exists())

    def note_use(self, volume_id: str, credentials: Credentials | None) -> None:
        Path(self.uses).mkdir(parents=True, exist_ok=True)
        (Path(self.uses) / volume_id).touch()

    def only_writer(self, volume_id: str, credentials: Credentials | None) -> AbstractContextManager[None]:
        """There is no other node here."""
        self.locate(volume_id, credentials)
        return nullcontext()


@dataclass(frozen=True)
class Setting:
    """All that a node half is made of."""

    run_directory: str
    monitors: tuple[str, ...]
    pool: str = "rbd"
    rados_namespace: str = ""
    boot_id: str = "this boot"
    attacher_name: str = "fuse"
    kms_file: str = ""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Of all volumes, by the fields of `DeviceLimits`."""

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> "Setting":
        values = json.loads(text)
        return cls(**{**values, "monitors": tuple(values["monitors"])})

    def attacher(self) -> Attacher:
        return _ATTACHERS[self.attacher_name](Path(self.run_directory))

    def operations(self) -> NodeOperations:
        parts = LocalMounts(), LocalFilesystems(), LocalLuks(), CgroupLimits()
        uses, limits = f"{self.run_directory}-uses", DeviceLimits(**self.limits)
        return NodeOperations(
            Machine((self.attacher(),), *parts, self.boot_id),
            KnownVolumes(self.monitors, self.pool, self.rados_namespace, uses, limits),
            KeyedLocks(),
            VolumeKeys(KmsFile(Path(self.kms_file) if self.kms_file else None, read_secret)),
        )
