"""An entry of the kinds `vault` and `vaulttokens` as a value: the Go driver's keys, its defaults, and some of our own.

    {"ID": {"encryptionKMSType": "vault", "vaultAddress": "https://vault:8200", "vaultRole": "csi-kubernetes", …}}

With `KMS_PROVIDER` in place of `encryptionKMSType` the keys are those of Vault's own environment (VAULT_ADDR and so on).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csi_driver.config import ConfigError
from csi_driver.kms.fields import text_of, truth_of

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""What a pod finds of its service account."""

NOT_TAKEN = ("tenants", "vaultClientCertFromSecret", "vaultClientCertKeyFromSecret")
"""Keys without which another place, or nobody, would be asked for the key: an entry with one is refused."""

_OF_ENVIRONMENT = {
    "VAULT_ADDR": "vaultAddress",
    "VAULT_BACKEND": "vaultBackend",
    "VAULT_BACKEND_PATH": "vaultBackendPath",
    "VAULT_DESTROY_KEYS": "vaultDestroyKeys",
    "VAULT_CACERT": "vaultCAFromSecret",
    "VAULT_CLIENT_CERT": "vaultClientCertFromSecret",
    "VAULT_CLIENT_KEY": "vaultClientCertKeyFromSecret",
    "VAULT_TLS_SERVER_NAME": "vaultTLSServerName",
    "VAULT_NAMESPACE": "vaultNamespace",
    "VAULT_AUTH_NAMESPACE": "vaultAuthNamespace",
}
_VERSIONS = {"kv": 1, "kv-v2": 2}


@dataclass(frozen=True)
class Login:
    """By the token of a service account of Kubernetes. mount: of the method, below `auth/`"""

    role: str
    mount: str
    token_file: Path


@dataclass(frozen=True)
class TokenSecret:
    """A token in a Secret of Kubernetes. namespace: empty for that of the volume's claim."""

    name: str
    namespace: str = ""


@dataclass(frozen=True)
class Tls:
    """verifies: the server's certificate · ca_secret, ca_file: the authority; without both that of the system"""

    verifies: bool
    ca_secret: str
    ca_file: str
    server_name: str


@dataclass(frozen=True)
class VaultEntry:
    """mount: of the secrets engine · version: of KV; 0: Vault is asked · prefix: before the handle · destroys: all versions
    of a key that is forgotten, not the newest alone · namespace, auth_namespace: of Vault
    """

    kms_id: str
    address: str
    mount: str
    version: int
    prefix: str
    destroys: bool
    namespace: str
    auth_namespace: str
    tls: Tls
    auth: Login | TokenSecret | Path


def parse_vault(kms_id: str, entry: Mapping[str, Any], *, has_tokens: bool) -> VaultEntry:
    """Raises ConfigError."""
    keys = normal(entry)
    text = {key: text_of(kms_id, keys, key) for key in _TEXTS}
    if not text["vaultAddress"].startswith(("http://", "https://")):
        raise ConfigError(
            f"entry {kms_id!r}: vaultAddress is {text['vaultAddress']!r}; an address with http:// or https:// is needed"
        )
    path = text["vaultBackendPath"] if has_tokens else text["vaultPassphraseRoot"] or text["vaultBackendPath"]
    return VaultEntry(
        kms_id=kms_id,
        address=text["vaultAddress"].rstrip("/"),
        mount=path.removeprefix("/v1/").strip("/") or "secret",
        version=_VERSIONS.get(text["vaultBackend"], 0),
        prefix="" if has_tokens else text["vaultPassphrasePath"].strip("/"),
        destroys=truth_of(kms_id, keys, "vaultDestroyKeys", default=True),
        namespace=text["vaultNamespace"].strip("/"),
        auth_namespace=(text["vaultAuthNamespace"] or text["vaultNamespace"]).strip("/"),
        tls=Tls(
            truth_of(kms_id, keys, "vaultCAVerify", default=True),
            text["vaultCAFromSecret"],
            text["vaultCAFile"],
            text["vaultTLSServerName"],
        ),
        auth=_tokens(text) if has_tokens else _login(text),
    )


_TEXTS = (
    *(key for key in _OF_ENVIRONMENT.values() if key not in (*NOT_TAKEN, "vaultDestroyKeys")),
    *("vaultAuthPath", "vaultRole", "vaultPassphraseRoot", "vaultPassphrasePath", "tenantTokenName"),
    *("vaultCAFile", "vaultTokenFile", "tenantTokenNamespace", "vaultServiceAccountTokenFile"),
)


def normal(entry: Mapping[str, Any]) -> dict[str, Any]:
    """With the entry's keys as `encryptionKMSType` has them."""
    if "KMS_PROVIDER" not in entry:
        return dict(entry)
    keys = {_OF_ENVIRONMENT.get(key, key): value for key, value in entry.items()}
    skips = truth_of("", keys, "VAULT_SKIP_VERIFY", default=False)
    return {**keys, "vaultCAVerify": not skips}


def _login(text: Mapping[str, str]) -> Login:
    token_file = text["vaultServiceAccountTokenFile"]
    return Login(
        text["vaultRole"] or "csi-kubernetes",
        _auth_mount(text["vaultAuthPath"]) or "kubernetes",
        Path(token_file) if token_file else ACCOUNT / "token",
    )


def _auth_mount(path: str) -> str:
    """`/v1/auth/MOUNT/login`, of which all but MOUNT may be missing."""
    parts = path.removeprefix("/v1/").strip("/").split("/")
    if parts[0] == "auth":
        parts = parts[1:]
    return "/".join(parts[:-1] if parts[-1:] == ["login"] else parts)


def _tokens(text: Mapping[str, str]) -> TokenSecret | Path:
    if text["vaultTokenFile"]:
        return Path(text["vaultTokenFile"])
    return TokenSecret(text["tenantTokenName"] or "ceph-csi-kms-token", text["tenantTokenNamespace"])
