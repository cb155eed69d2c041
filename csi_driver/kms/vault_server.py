"""One Vault server over HTTP: logins, and secrets of a KV engine, each in one bounded request; the only `import hvac`.

Loaded only where an entry names a Vault. No token and no secret is in a message of an error, or in a log. A secret is one
text under `passphrase` below `data`, which for version 2 of KV is below its own `data` again: as the Go driver keeps it.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hvac
import requests
import urllib3
from hvac import exceptions
from requests.adapters import HTTPAdapter

from csi_driver.errors import AccessDenied, Inconsistent, InvalidRequest, KmsUnavailable
from csi_driver.kms.vault_entry import Login, VaultEntry

_TIMEOUTS_S = (3.0, 5.0)
"""To connect, and for the answer."""
_SILENCE_S = 3.0
"""How long a server that did not answer is not asked again: many volumes wait for it then."""
_NO_ENGINE = "no handler for route"
_OTHER_VERSION = "check-and-set"


class TokenRefused(Exception):
    """By the server; it may be expired, or lack a capability."""


class KeptAlready(Exception):
    """There is a secret already. version: of the newest one of KV 2; 0 where it is one that was not deleted."""

    def __init__(self, version: int = 0) -> None:
        super().__init__()
        self.version = version


@dataclass(frozen=True)
class Token:
    """lasts_s: 0 where it does not tell"""

    text: str
    lasts_s: float = 0.0


class VaultServer:
    """The server of one entry. read_authority: the certificates that the entry names a Secret for"""

    def __init__(self, entry: VaultEntry, read_authority: Callable[[], str]) -> None:
        self._entry = entry
        self._read_authority = read_authority
        self._session: requests.Session | None = None
        self._silent_until, self._silence = 0.0, ""

    def log_in(self, login: Login) -> Token:
        """Raises AccessDenied, KmsUnavailable."""
        try:
            account = login.token_file.read_text().strip()
        except OSError as error:
            raise KmsUnavailable(f"{self._named}: there is no token of a service account: {error}") from error
        where = f"auth/{login.mount}/login"
        try:
            with self._asked(where):
                client = self._client("", self._entry.auth_namespace)
                answer = client.auth.kubernetes.login(login.role, account, use_token=False, mount_point=login.mount)
        except (TokenRefused, exceptions.InvalidRequest, exceptions.InvalidPath) as error:
            raise AccessDenied(
                f"{self._named} refuses the login at {where} with vaultRole {login.role!r} ({_words(error)}): the role has "
                "to be there, and bound to the service account of this pod"
            ) from error
        return Token(answer["auth"]["client_token"], float(answer["auth"].get("lease_duration") or 0))

    def version(self, token: str) -> int:
        """Of the KV engine. Raises TokenRefused, InvalidRequest, KmsUnavailable."""
        mount = self._entry.mount
        with self._asked(mount):
            try:
                found = self._client(token).adapter.get(f"/v1/sys/internal/ui/mounts/{mount}")["data"]
            except exceptions.InvalidPath as error:
                raise self._no_engine() from error
        if found.get("type") != "kv":
            raise self._no_engine()
        return 2 if (found.get("options") or {}).get("version") == "2" else 1

    def read(self, token: str, path: str, version: int) -> str:
        """Empty for nothing. Raises TokenRefused, Inconsistent, InvalidRequest, KmsUnavailable."""
        kv, mount = self._client(token).secrets.kv, self._entry.mount
        with self._asked(path):
            try:
                if version == 1:
                    found = kv.v1.read_secret(path, mount_point=mount)["data"]
                else:
                    found = kv.v2.read_secret_version(path, mount_point=mount, raise_on_deleted_version=True)["data"][
                        "data"
                    ]
            except exceptions.InvalidPath as missing:
                self._refuse_lost_engine(missing)
                return ""
        kept = found.get("data") if isinstance(found, dict) else None
        text = kept.get("passphrase") if isinstance(kept, dict) else None
        if not isinstance(text, str) or not text:
            raise Inconsistent(
                f"{self._named}: the secret {mount}/{path} has no text `passphrase` below `data`; nothing was touched"
            )
        return text

    def write(self, token: str, path: str, text: str, version: int) -> None:
        """In the place of nothing. Raises KeptAlready, and as `read`.

        KV 2 compares and writes in one; with KV 1 two writers at once are not told from each other.
        """
        secret = {"data": {"passphrase": text}}
        if version == 1:
            if self.read(token, path, version):
                raise KeptAlready
            with self._asked(path), self._engine_there():
                self._client(token).secrets.kv.v1.create_or_update_secret(path, secret, mount_point=self._entry.mount)
            return
        self._write_over(token, path, secret, over=0)

    def replace_deleted(self, token: str, path: str, text: str) -> None:
        """A secret of KV 2 whose newest version is deleted. Raises KeptAlready where it is not, and as `write`."""
        self._write_over(token, path, {"data": {"passphrase": text}}, over=self._deleted_version(token, path))

    def _write_over(self, token: str, path: str, secret: dict[str, Any], over: int) -> None:
        with self._asked(path), self._engine_there():
            try:
                self._client(token).secrets.kv.v2.create_or_update_secret(
                    path, secret, cas=over, mount_point=self._entry.mount
                )
            except exceptions.InvalidRequest as error:
                if _OTHER_VERSION in _words(error):
                    raise KeptAlready from error
                raise

    def _deleted_version(self, token: str, path: str) -> int:
        with self._asked(path):
            try:
                self._client(token).secrets.kv.v2.read_secret_version(
                    path, mount_point=self._entry.mount, raise_on_deleted_version=True
                )
            except exceptions.InvalidPath as error:
                told: Any = error.json or {}
                return int(((told.get("data") or {}).get("metadata") or {}).get("version") or 0)
        raise KeptAlready

    def delete(self, token: str, path: str, version: int) -> None:
        """Fine when there is nothing. Raises TokenRefused, InvalidRequest, KmsUnavailable."""
        kv, mount = self._client(token).secrets.kv, self._entry.mount
        with self._asked(path), self._engine_there():
            if version == 1:
                kv.v1.delete_secret(path, mount_point=mount)
            elif self._entry.destroys:
                kv.v2.delete_metadata_and_all_versions(path, mount_point=mount)
            else:
                kv.v2.delete_latest_version_of_secret(path, mount_point=mount)

    @property
    def _named(self) -> str:
        return f"KMS entry {self._entry.kms_id!r}: Vault at {self._entry.address}"

    def _client(self, token: str, namespace: str | None = None) -> Any:
        session = self._session  # another thread may drop it meanwhile
        if session is None:
            session = self._session = self._new_session()
        where = self._entry.namespace if namespace is None else namespace
        return hvac.Client(
            self._entry.address,
            token,
            verify=session.verify,
            timeout=_TIMEOUTS_S,
            session=session,
            namespace=where or None,
        )

    def _new_session(self) -> requests.Session:
        session, tls = requests.Session(), self._entry.tls
        if not tls.verifies:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            session.verify = False
        elif tls.ca_secret:
            session.verify = _in_memory(self._read_authority())
        elif tls.ca_file:
            session.verify = tls.ca_file
        if tls.server_name:
            session.mount("https://", _NamedServer(tls.server_name))
        return session

    @contextmanager
    def _asked(self, where: str) -> Iterator[None]:
        """Translates what is not about one secret."""
        if time.monotonic() < self._silent_until:
            raise KmsUnavailable(self._silence)
        try:
            yield
        except (exceptions.Forbidden, exceptions.Unauthorized) as error:
            raise TokenRefused(_words(error)) from error
        except (exceptions.InvalidRequest, exceptions.InvalidPath):
            raise
        except exceptions.VaultDown as error:
            raise KmsUnavailable(
                f"{self._named} is sealed, or not ready, when asked for {where}: {_words(error)}"
            ) from error
        except exceptions.VaultError as error:
            raise KmsUnavailable(f"{self._named} fails when asked for {where}: {_words(error)}") from error
        except (requests.RequestException, OSError) as error:
            self._session = None  # its authority may be another one by now
            self._silence = f"{self._named} cannot be reached: {_reason(error)}"
            self._silent_until = time.monotonic() + _SILENCE_S
            raise KmsUnavailable(self._silence) from error

    @contextmanager
    def _engine_there(self) -> Iterator[None]:
        try:
            yield
        except exceptions.InvalidPath as error:
            raise self._no_engine() from error
        except exceptions.InvalidRequest as error:
            raise InvalidRequest(
                f"{self._named} does not take a secret at {self._entry.mount}: {_words(error)}"
            ) from error

    def _refuse_lost_engine(self, missing: exceptions.InvalidPath) -> None:
        if _NO_ENGINE in _words(missing):
            raise self._no_engine() from missing

    def _no_engine(self) -> InvalidRequest:
        return InvalidRequest(f"{self._named} has no secrets engine KV at {self._entry.mount!r}")


class _NamedServer(HTTPAdapter):
    """Asks for, and wants, the certificate of this name, whatever the address."""

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, server_hostname=self._name, assert_hostname=self._name)


@cache
def _in_memory(text: str) -> str:
    """A file for the library, on no disk; as long as the process lives, so that each text has one."""
    descriptor = os.memfd_create("vault-ca", os.MFD_CLOEXEC)
    os.write(descriptor, text.encode())
    return str(Path("/proc/self/fd") / str(descriptor))


def _words(error: Exception) -> str:
    """Vault's own; it repeats no token and no secret."""
    told = error.errors if isinstance(error, exceptions.VaultError) else None
    text = ", ".join(map(str, told)) if told else str(error.args[0] if error.args else "")
    return " ".join(text.replace("1 error occurred:", "").replace("*", "").split()) or type(error).__name__


def _reason(error: Exception) -> str:
    """Without the library's own words around it."""
    cause: BaseException = error
    while isinstance(inner := getattr(cause, "reason", None) or (cause.args[0] if cause.args else None), BaseException):
        cause = inner
    return str(cause)
