"""The kinds that keep keys in a Vault server: one secret for each volume, by its handle, as the Go driver has it.

Nothing is in the image's metadata, so that the secret is all there is of a key: it is written before the entry of the volume
is complete, never over another one, and deleted by `forget` alone. A token is kept for as long as it lasts, and got anew
once when it is refused. Which server, and what it said, is vault_server.py's.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from csi_driver.errors import AccessDenied, Inconsistent, InvalidRequest, KeyMissing, KmsUnavailable
from csi_driver.kms.api import KeyHolder
from csi_driver.kms.passphrases import ReadSecret
from csi_driver.kms.vault_entry import ACCOUNT, Login, TokenSecret, VaultEntry
from csi_driver.kms.wrapping import new_data_key

if TYPE_CHECKING:
    from csi_driver.kms.vault_server import Token, VaultServer

T = TypeVar("T")

_TOKEN_KEY, _AUTHORITY_KEY = "token", "cert"
_LASTING = 0.8
"""Of a token's time, after which another one is got."""


class VaultKms:
    """One entry."""

    has_key_per_volume = True
    wraps_with_passphrase = False
    is_in_metadata = False

    def __init__(self, entry: VaultEntry, read_secret: ReadSecret) -> None:
        self.kms_id = entry.kms_id
        self._entry = entry
        self._read_secret = read_secret
        self._guard = threading.Lock()
        self._loaded: VaultServer | None = None
        self._version = entry.version
        self._tokens: dict[str, tuple[str, float]] = {}
        """With the time until which each is used, by namespaces of claims; of a login by none."""

    def check(self, holder: KeyHolder) -> None:
        self._do(holder, "read", lambda _token, _version: None)

    def new_key(self, holder: KeyHolder) -> str:  # noqa: ARG002 - random
        return new_data_key()

    def keep(self, holder: KeyHolder, data_key: str, *, is_new: bool = False) -> str:
        self._do(holder, "create", lambda token, version: self._keep(token, version, holder, (data_key, is_new)))
        return ""

    def _keep(self, token: str, version: int, holder: KeyHolder, key: tuple[str, bool]) -> None:
        from csi_driver.kms.vault_server import KeptAlready  # noqa: PLC0415 - loaded where a Vault is asked

        data_key, is_new = key
        path = self._path(holder)
        try:
            return self._server.write(token, path, data_key, version)
        except KeptAlready:
            kept = self._server.read(token, path, version)
        if not kept:
            return self._server.replace_deleted(token, path, data_key)
        if kept != data_key and not is_new:
            raise Inconsistent(
                f"KMS entry {self.kms_id!r} keeps another key for volume {holder.handle} already, at "
                f"{self._entry.mount}/{path}; nothing was touched"
            )
        return None

    def fetch(self, holder: KeyHolder, kept: str) -> str:  # noqa: ARG002 - nothing is in the metadata
        path = self._path(holder)
        found = self._do(holder, "read", lambda token, version: self._server.read(token, path, version))
        if not found:
            raise KeyMissing(
                f"KMS entry {self.kms_id!r}: Vault at {self._entry.address} has no key of volume {holder.handle} at "
                f"{self._entry.mount}/{path}; nothing was touched"
            )
        return found

    def forget(self, holder: KeyHolder) -> None:
        path = self._path(holder)
        self._do(holder, "delete", lambda token, version: self._server.delete(token, path, version))

    @property
    def _server(self) -> "VaultServer":
        from csi_driver.kms.vault_server import VaultServer  # noqa: PLC0415 - loaded where a Vault is asked

        with self._guard:
            if self._loaded is None:
                self._loaded = VaultServer(self._entry, self._read_authority)
            return self._loaded

    def _path(self, holder: KeyHolder) -> str:
        return f"{self._entry.prefix}/{holder.handle}" if self._entry.prefix else holder.handle

    def _do(self, holder: KeyHolder, capability: str, ask: Callable[[str, int], T]) -> T:
        """Once more with another token when it is refused. Raises AccessDenied, KmsUnavailable."""
        from csi_driver.kms.vault_server import TokenRefused  # noqa: PLC0415 - as above

        for is_last in (False, True):
            token = self._token(holder, is_new=is_last)
            try:
                if not self._version:
                    self._version = self._server.version(token)
                return ask(token, self._version)
            except TokenRefused as error:
                if is_last:
                    raise self._denied(holder, capability, str(error)) from error
        raise AssertionError

    def _denied(self, holder: KeyHolder, capability: str, words: str) -> AccessDenied:
        mount, path = self._entry.mount, self._path(holder)
        if not self._version:
            needed = f"{mount} cannot be looked up: name its vaultBackend (kv or kv-v2), or allow something below it"
            return AccessDenied(f"KMS entry {self.kms_id!r}: Vault at {self._entry.address}: {words}: {needed}")
        part = "" if self._version == 1 else "metadata/" if capability == "delete" and self._entry.destroys else "data/"
        capabilities = "create and update" if capability == "create" else capability
        return AccessDenied(
            f"KMS entry {self.kms_id!r}: Vault at {self._entry.address}: {words}: {self._who()} needs the capability "
            f"{capabilities} on {mount}/{part}{path}"
        )

    def _who(self) -> str:
        auth = self._entry.auth
        if isinstance(auth, Login):
            return f"vaultRole {auth.role!r}"
        return f"the token of Secret {auth.name!r}" if isinstance(auth, TokenSecret) else f"the token in {auth}"

    def _token(self, holder: KeyHolder, *, is_new: bool) -> str:
        auth = self._entry.auth
        whose = holder.namespace if isinstance(auth, TokenSecret) and not auth.namespace else ""
        text, until = self._tokens.get(whose, ("", 0.0))
        if text and not is_new and time.monotonic() < until:
            return text
        found = self._server.log_in(auth) if isinstance(auth, Login) else self._read_token(auth, holder)
        lasts_s = found.lasts_s * _LASTING if found.lasts_s else float("inf")
        self._tokens[whose] = found.text, time.monotonic() + lasts_s
        return found.text

    def _read_token(self, auth: TokenSecret | Path, holder: KeyHolder) -> "Token":
        from csi_driver.kms.vault_server import Token  # noqa: PLC0415 - as above

        if isinstance(auth, Path):
            try:
                return Token(auth.read_text().strip())
            except OSError as error:
                raise KmsUnavailable(f"KMS entry {self.kms_id!r}: vaultTokenFile cannot be read: {error}") from error
        namespace = auth.namespace or holder.namespace
        if not namespace:
            raise InvalidRequest(
                f"KMS entry {self.kms_id!r}: its token is in the Secret {auth.name!r} of the claim's namespace, and the "
                "volume does not tell that (the provisioner's --extra-create-metadata); tenantTokenNamespace may name one"
            )
        return Token(self._secret(namespace, auth.name, _TOKEN_KEY).strip())

    def _read_authority(self) -> str:
        """From the namespace of this pod, as the driver's own affair; claims have no say in it."""
        try:
            namespace = (ACCOUNT / "namespace").read_text().strip()
        except OSError as error:
            raise KmsUnavailable(
                f"KMS entry {self.kms_id!r}: vaultCAFromSecret means a Secret beside this driver's pod, and this is "
                f"none: {error}"
            ) from error
        return self._secret(namespace, self._entry.tls.ca_secret, _AUTHORITY_KEY)

    def _secret(self, namespace: str, name: str, key: str) -> str:
        found = self._read_secret(namespace, name).get(key, "")
        if not found:
            raise InvalidRequest(f"KMS entry {self.kms_id!r}: the Secret {namespace}/{name} has no {key}")
        return found
