"""The file of KMS entries, in the layout of the Go driver's `kms-config.json`, read anew when it changes:

    {"ID": {"encryptionKMSType": "metadata", "secretName": "…", "secretNamespace": "…"}, …}

`KMS_PROVIDER` in place of `encryptionKMSType` is read too; other keys are ignored. An entry of a kind that this driver does
not have is refused when it is used, so that a file that both drivers share is no hindrance.
"""

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from csi_driver.config import DEFAULT_KMS_FILE, ConfigError
from csi_driver.errors import InvalidRequest
from csi_driver.kms.api import FROM_SECRETS, KindNotOffered, Kms
from csi_driver.kms.fields import text_of
from csi_driver.kms.passphrases import MetadataKms, NamedSecret, ReadSecret, SecretsKms
from csi_driver.kms.vault import VaultKms
from csi_driver.kms.vault_entry import NOT_TAKEN, normal, parse_vault

log = structlog.get_logger(__name__)

_TYPE_KEYS = ("encryptionKMSType", "KMS_PROVIDER")

Make = Callable[[], Kms]
"""Raises KindNotOffered, and InvalidRequest for an entry that cannot be used."""


class KmsFile:
    """Entries by id (kms.api.KmsEntries). A change that cannot be read is logged, and the last good one holds."""

    def __init__(self, path: Path | None, read_secret: ReadSecret) -> None:
        """Without a file the secrets' own entry is the only one; so it is where the default file is missing.

        Raises ConfigError.
        """
        self._path = path
        self._read_secret = read_secret
        self._guard = threading.Lock()
        self._stamp = self._look()
        self._entries = self._read()

    def find(self, kms_id: str) -> Kms:
        if kms_id == FROM_SECRETS:
            return SecretsKms()
        entries = self._current()
        if kms_id in entries:
            return entries[kms_id]()
        where = f"entries of {self._path}" if self._path else "without a file of entries (--kms-config)"
        raise InvalidRequest(
            f"parameter encryptionKMSID is {kms_id!r}; allowed are {', '.join(sorted({FROM_SECRETS, *entries}))} ({where})"
        )

    def _current(self) -> Mapping[str, Make]:
        stamp = self._look()
        with self._guard:
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._entries = self._read()
                    log.info("KMS configuration read anew", entries=",".join(self._entries))
                except ConfigError as error:
                    log.warning("KMS configuration cannot be read; the last good one holds", reason=str(error))
            return self._entries

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat() if self._path else None
        except OSError:
            found = None
        return (found.st_ino, found.st_mtime_ns, found.st_size) if found else (0, 0, 0)

    def _read(self) -> dict[str, Make]:
        if self._path is None or (self._path == DEFAULT_KMS_FILE and not self._path.exists()):
            return {}
        try:
            content = json.loads(self._path.read_text())
        except OSError as error:
            raise ConfigError(f"--kms-config {self._path}: {error.strerror}") from error
        except ValueError as error:
            raise ConfigError(f"--kms-config {self._path} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"--kms-config {self._path} is not an object of entries by their ids")
        try:
            return {kms_id: parse_entry(kms_id, entry, self._read_secret) for kms_id, entry in content.items()}
        except ConfigError as error:
            raise ConfigError(f"--kms-config {self._path}, {error}") from error


def parse_entry(kms_id: str, entry: Any, read_secret: ReadSecret) -> Make:
    """Raises ConfigError that names the entry, the field and the value."""
    if not kms_id or not kms_id.isprintable() or not isinstance(entry, dict):
        raise ConfigError(f"entry {kms_id!r}: needed is an object under an id without control characters")
    given = next((key for key in _TYPE_KEYS if key in entry), "")
    if not given:
        raise ConfigError(f"entry {kms_id!r}: encryptionKMSType is missing; allowed are {', '.join(KINDS)}")
    kind = text_of(kms_id, entry, given)
    if kind not in KINDS:
        return _refusal(
            KindNotOffered(
                f"parameter encryptionKMSID is {kms_id!r}, whose entry has {given} {kind!r}; allowed are {', '.join(KINDS)}"
            )
        )
    if kind in _OF_VAULT and (odd := [key for key in NOT_TAKEN if normal(entry).get(key)]):
        return _refusal(
            InvalidRequest(f"parameter encryptionKMSID is {kms_id!r}, whose entry has {odd[0]}, which is not offered")
        )
    made = KINDS[kind](kms_id, entry, read_secret)
    return lambda: made


def _refusal(error: InvalidRequest) -> Make:
    def refuse() -> Kms:
        raise error

    return refuse


def _metadata(kms_id: str, entry: Mapping[str, Any], read_secret: ReadSecret) -> Kms:
    name, namespace = (text_of(kms_id, entry, key) for key in ("secretName", "secretNamespace"))
    if namespace and not name:
        raise ConfigError(f"entry {kms_id!r}: secretNamespace is {namespace!r}, and secretName is missing")
    return MetadataKms(kms_id, NamedSecret(name, namespace) if name else None, read_secret)


def _vault(kms_id: str, entry: Mapping[str, Any], read_secret: ReadSecret) -> Kms:
    return VaultKms(parse_vault(kms_id, entry, has_tokens=False), read_secret)


def _vault_tokens(kms_id: str, entry: Mapping[str, Any], read_secret: ReadSecret) -> Kms:
    return VaultKms(parse_vault(kms_id, entry, has_tokens=True), read_secret)


_OF_VAULT = {"vault": _vault, "vaulttokens": _vault_tokens}

KINDS: dict[str, Callable[[str, Mapping[str, Any], ReadSecret], Kms]] = {
    "metadata": _metadata,
    "secrets-metadata": _metadata,
    **_OF_VAULT,
}
"""By `encryptionKMSType`. The second is another word for the first."""
