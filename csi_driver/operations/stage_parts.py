"""What a stage is made of: the request, and what it asks of the cluster."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from csi_driver.addresses import Credentials, StaticImage
from csi_driver.host.api import AS_CRYPTSETUP_CHOOSES, LuksForm
from csi_driver.model import Capability, StagedVolume
from csi_driver.operations.encryption import LuksSecret
from csi_driver.operations.stage_record import StagePlace
from csi_driver.operations.volume_keys import KeptKey


@dataclass(frozen=True)
class FoundEncryption:
    """What image and journal say of an encrypted volume. is_unused: it was never staged whole."""

    key: KeptKey
    is_unused: bool


class Locator(Protocol):
    """The way from a volume id to its image."""

    def locate(self, volume_id: str, credentials: Credentials | None) -> StagedVolume:
        """Raises NotFound, also for an id that does not parse."""

    def locate_static(self, image: StaticImage, credentials: Credentials | None) -> StagedVolume:
        """Raises NotFound when the image, its pool or its cluster is not there."""

    def await_closed(self, volume_id: str, static: StaticImage | None, credentials: Credentials | None) -> None:
        """Until no client has the image open. Raises InUse, with the address of one that has; Busy; NotFound."""

    def encryption(
        self, volume_id: str, static: StaticImage | None, credentials: Credentials | None
    ) -> FoundEncryption:
        """Of an encrypted volume. Raises NotFound."""

    def note_use(self, volume_id: str, credentials: Credentials | None) -> None:
        """It is not unused, from now on."""

    def only_writer(self, volume_id: str, credentials: Credentials | None) -> AbstractContextManager[None]:
        """While this holds, no other node does the same, and when it began no client had the image open for writing.

        Raises Busy while another node does; InUse, with the client's address; NotFound.
        """


@dataclass(frozen=True)
class StageOptions:
    """What a volume's parameters say about its stage. mounter None: the automatic choice; fs_type "": left open."""

    mounter: str | None = None
    try_other_mounters: bool = False
    map_options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unmap_options: str = ""
    mkfs_options: tuple[str, ...] = ()
    fs_type: str = ""
    kms_id: str = ""
    """By the volume's context; empty where it is not encrypted."""
    luks_form: LuksForm = AS_CRYPTSETUP_CHOOSES

    @property
    def is_encrypted(self) -> bool:
        return bool(self.kms_id)


@dataclass(frozen=True)
class StageRequest:
    """A NodeStageVolume."""

    place: StagePlace
    capability: Capability
    credentials: Credentials | None
    options: StageOptions = field(default_factory=StageOptions)
    static: StaticImage | None = None
    read_only: bool = False
    """As the controller published it to this node; a capability that only reads needs no more."""
    passphrase: str = field(default="", repr=False)
    secret: LuksSecret | None = None
    """Made of the passphrase and of what the image's metadata say, by the stage itself."""
