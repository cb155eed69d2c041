"""The data keys of encrypted volumes, from their making to their opening: which KMS keeps one, and for whom.

Persisted in the image's metadata, as the Go driver has it: `rbd.csi.ceph.com/dek`, where the KMS keeps nothing itself. It is
written in one write with the rest of a new image's metadata, before the entry is complete: an image without it is one that
nobody finished, and is made anew. A clone inherits its source's, wrapped for the source's handle; the same write puts its
own in place, or drops it.

A key that a server keeps has a life of its own. It is there before the entry is complete, under a handle whose uuid the
journal knows by then, and is removed when the image is gone, before what the image's volume is found by (`forget`).

A copy's header is its source's, and so is its data key: the source's KMS tells it, and the copy's keeps it once more.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from csi_driver.errors import DriverError, InvalidRequest, KeyMissing, KmsUnavailable, Unauthenticated
from csi_driver.kms.api import FROM_SECRETS, KeyHolder, KindNotOffered, Kms, KmsEntries
from csi_driver.model import VolumeSpec
from csi_driver.tracing import step

log = structlog.get_logger(__name__)

DEK_KEY = "rbd.csi.ceph.com/dek"
OLD_DEK_KEY = f".{DEK_KEY}"
DEK_KEYS = (DEK_KEY, OLD_DEK_KEY)

OtherNames = Callable[[str], Sequence[str]]


def kept_in(metadata: Mapping[str, str]) -> str:
    """What an image's metadata hold of its key; empty for nothing."""
    return metadata.get(DEK_KEY) or metadata.get(OLD_DEK_KEY, "")


@dataclass(frozen=True)
class KeptKey:
    """Of a volume that exists: where its key is. kms_id: empty where the journal does not say · owner: its namespace.

    handle: for which it was kept, the source's for a snapshot on the source's image.
    """

    handle: str
    kms_id: str
    kept: str
    owner: str = ""


class KeyEnding(Protocol):
    """What is known of keys where volumes end."""

    def forget(self, key: KeptKey) -> None:
        """Of a volume whose image is gone. Fine when nothing is kept. Raises KmsUnavailable: its record has to stay."""

    def is_in_metadata(self, kms_id: str) -> bool:
        """Whether a volume's image must have its key. False also where nobody knows."""


class UnknownKeys:
    """Where there is no KMS configuration."""

    def forget(self, key: KeptKey) -> None:
        if key.kms_id not in ("", FROM_SECRETS):
            raise KmsUnavailable(
                f"the key of volume {key.handle} is kept by {key.kms_id!r}, and no KMS entries are read here"
            )

    def is_in_metadata(self, kms_id: str) -> bool:  # noqa: ARG002 - nobody knows
        return False


class VolumeKeys:
    """Keys by the entries of the KMS configuration."""

    def __init__(self, entries: KmsEntries, other_names: OtherNames = lambda _handle: ()) -> None:
        """other_names: handles by which volumes may have been known where another cluster stood in their cluster's place."""
        self._entries = entries
        self._other_names = other_names

    def check(self, spec: VolumeSpec) -> None:
        """Before anything is written. Raises InvalidRequest for an unknown KMS, or secrets that lack what it needs."""
        if spec.kms_id:
            self._entries.find(spec.kms_id).check(_holder("", spec))

    def is_needed_of(self, source_kms_id: str, spec: VolumeSpec) -> bool:
        """Whether a copy's key must be got from its source: not where one passphrase is the key of both."""
        kinds = (self._entries.find(one) for one in (source_kms_id, spec.kms_id))
        return any(kms.has_key_per_volume for kms in kinds)

    def of_source(self, source: KeptKey, spec: VolumeSpec) -> str:
        """The data key of what is copied. Raises InvalidRequest, Unauthenticated, Inconsistent, Unfinished."""
        kms = self._entries.find(source.kms_id)
        return self._fetch(kms, source, spec.passphrase)

    def metadata(self, handle: str, spec: VolumeSpec, data_key: str) -> dict[str, str]:
        """Of a new image, its key kept. data_key: the source's; empty for a new one."""
        if not spec.kms_id:
            return {}
        kms, holder = self._entries.find(spec.kms_id), _holder(handle, spec)
        if not kms.has_key_per_volume and not data_key:
            return {}
        with step("keys.keep", handle):
            kept = kms.keep(holder, data_key or kms.new_key(holder), is_new=not data_key)
        return {DEK_KEY: kept} if kept else {}

    def open(self, key: KeptKey, of_context: str, passphrase: str) -> str:
        """The passphrase of a volume that is staged. of_context: the KMS by the volume's context, if the journal has none.

        Raises as `of_source`.
        """
        try:
            kms = self._entries.find(key.kms_id or of_context or FROM_SECRETS)
        except InvalidRequest as unknown:
            raise InvalidRequest(f"volume {key.handle}: {unknown}") from unknown
        return self._fetch(kms, key, passphrase)

    def forget(self, key: KeptKey) -> None:
        """As `KeyEnding` has it. Of the handle that the volume has here alone: another cluster may need it by others."""
        if not key.kms_id:
            return
        try:
            kms = self._entries.find(key.kms_id)
            if not kms.has_key_per_volume or kms.is_in_metadata:
                return
            with step("keys.forget", key.handle):
                kms.forget(KeyHolder(key.handle, namespace=key.owner))
        except KindNotOffered as error:
            log.warning("what keeps a volume's key is not known here; it is left", volume=key.handle, reason=str(error))
        except DriverError as error:
            raise KmsUnavailable(f"the key of volume {key.handle} cannot be removed yet: {error}") from error

    def is_in_metadata(self, kms_id: str) -> bool:
        try:
            return self._entries.find(kms_id).is_in_metadata
        except InvalidRequest:
            return False

    def _fetch(self, kms: Kms, key: KeptKey, passphrase: str) -> str:
        with step("keys.fetch", key.handle):
            try:
                return kms.fetch(KeyHolder(key.handle, passphrase, key.owner), key.kept)
            except (Unauthenticated, KeyMissing):
                for other in self._other_names(key.handle):
                    with suppress(Unauthenticated, KeyMissing):
                        return kms.fetch(KeyHolder(other, passphrase, key.owner), key.kept)
                raise


def _holder(handle: str, spec: VolumeSpec) -> KeyHolder:
    return KeyHolder(handle, spec.passphrase, spec.owner)
