"""Keys in a real Vault, kept as the Go driver keeps them; what Vault refuses, and what is said of it; outages."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from csi_driver.errors import AccessDenied, Inconsistent, InvalidRequest, KeyMissing, KmsUnavailable
from csi_driver.kms.api import KeyHolder, Kms
from csi_driver.kms.entries import KmsFile
from tests.kms.vault import NAMESPACE, Vault
from tests.kubernetes_api import ApiServer

HANDLE = "0001-0003-dev-0000000000000002-4f0d2cb6-0000-4c4e-8a50-000000000001"
HOLDER = KeyHolder(HANDLE, namespace="shop")
KEY = "AAECAwQFBgcICQoLDA0ODxAREhM="

MakeKms = Callable[..., Kms]


@pytest.fixture
def kms(vault: Vault, kubernetes: ApiServer, tmp_path: Path) -> MakeKms:
    """Of an entry of the kind `vault`, or another; `secrets` are those of Kubernetes."""

    def make(secrets: Mapping[str, Mapping[str, str]] | None = None, **keys: Any) -> Kms:
        account = {"vaultServiceAccountTokenFile": str(kubernetes.account / "token")}
        entry = {"encryptionKMSType": "vault", "vaultAddress": vault.address, **account, **keys}
        (tmp_path / "kms.json").write_text(json.dumps({"far": entry}))
        return KmsFile(tmp_path / "kms.json", lambda namespace, name: (secrets or {})[f"{namespace}/{name}"]).find(
            "far"
        )

    return make


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({}, f"secret/data/{HANDLE}"),
        ({"vaultPassphraseRoot": "/v1/secret", "vaultPassphrasePath": "csi/keys/"}, f"secret/data/csi/keys/{HANDLE}"),
        ({"vaultBackend": "kv-v2", "vaultBackendPath": "secret/"}, f"secret/data/{HANDLE}"),
        ({"vaultAuthPath": "/v1/auth/kubernetes/login", "vaultBackendPath": "old"}, f"old/{HANDLE}"),
        ({"vaultBackend": "kv", "vaultPassphraseRoot": "/v1/old/"}, f"old/{HANDLE}"),
    ],
)
def test_a_key_is_kept_where_the_go_driver_keeps_it_and_forgotten(
    kms: MakeKms, vault: Vault, keys: dict[str, str], path: str
) -> None:
    far = kms(**keys)
    far.check(HOLDER)
    assert far.keep(HOLDER, KEY) == ""
    kept = vault.secret(path)
    assert (kept["data"] if path.startswith("secret") else kept) == {"data": {"passphrase": KEY}}
    assert far.fetch(HOLDER, "") == KEY
    assert far.keep(HOLDER, KEY) == ""
    for _ in range(2):
        far.forget(HOLDER)
        assert vault.secret(path) is None
    with pytest.raises(KeyMissing, match=HANDLE):
        far.fetch(HOLDER, "")
    assert vault.names() | vault.names("old") <= {"csi/"}


def test_what_the_go_driver_wrote_is_fetched(kms: MakeKms, vault: Vault) -> None:
    vault.ask("POST", f"secret/data/{HANDLE}", {"data": {"data": {"passphrase": KEY}}})
    assert kms().fetch(HOLDER, "") == KEY
    vault.ask("POST", f"secret/data/{HANDLE}", {"data": {"passphrase": KEY}})
    with pytest.raises(Inconsistent, match="no text `passphrase`"):
        kms().fetch(HOLDER, "")
    kms().forget(HOLDER)


@pytest.mark.parametrize("path", ["secret", "old"])
def test_a_key_is_never_written_over(kms: MakeKms, path: str) -> None:
    """A maker that was overtaken comes late: the volume is formatted with what its successor kept."""
    far = kms(vaultBackendPath=path)
    far.keep(HOLDER, KEY, is_new=True)
    far.keep(HOLDER, far.new_key(HOLDER), is_new=True)
    assert far.fetch(HOLDER, "") == KEY
    with pytest.raises(Inconsistent, match="another key"):
        far.keep(HOLDER, far.new_key(HOLDER))
    assert far.fetch(HOLDER, "") == KEY
    far.forget(HOLDER)


def test_without_destroying_the_newest_version_alone_is_deleted(kms: MakeKms, vault: Vault) -> None:
    far = kms(vaultDestroyKeys="false")
    for number in range(2):
        far.keep(HOLDER, KEY + str(number))
        assert far.fetch(HOLDER, "") == KEY + str(number)
        far.forget(HOLDER)
        far.forget(HOLDER)
        with pytest.raises(KeyMissing):
            far.fetch(HOLDER, "")
    vault.ask("POST", f"secret/undelete/{HANDLE}", {"versions": [2]})
    assert far.fetch(HOLDER, "") == KEY + "1"
    kms().forget(HOLDER)


def test_a_token_may_come_from_a_named_secret_or_a_file(kms: MakeKms, vault: Vault, tmp_path: Path) -> None:
    """And is read anew when it is refused."""
    secrets = {
        "shop/ceph-csi-kms-token": {"token": vault.token("keys")},
        "shop/mine": {"token": vault.token("keys") + "\n"},
        "vaults/theirs": {"token": vault.token("keys")},
    }
    (tmp_path / "token").write_text(vault.token("keys"))
    for keys in (
        {},
        {"tenantTokenName": "mine"},
        {"tenantTokenName": "theirs", "tenantTokenNamespace": "vaults"},
        {"vaultTokenFile": str(tmp_path / "token")},
    ):
        far = kms(secrets, encryptionKMSType="vaulttokens", **keys)
        far.keep(HOLDER, KEY)
        assert far.fetch(HOLDER, "") == KEY
        far.forget(HOLDER)
    far = kms(secrets, encryptionKMSType="vaulttokens")
    far.check(HOLDER)
    vault.ask("POST", "auth/token/revoke", {"token": secrets["shop/ceph-csi-kms-token"]["token"]})
    with pytest.raises(AccessDenied, match="Secret 'ceph-csi-kms-token' needs the capability create"):
        far.keep(HOLDER, KEY)
    secrets["shop/ceph-csi-kms-token"]["token"] = vault.token("keys")
    far.keep(HOLDER, KEY)
    far.forget(HOLDER)
    with pytest.raises(InvalidRequest, match="tenantTokenNamespace"):
        far.fetch(KeyHolder(HANDLE), "")


def test_entries_in_the_words_of_vaults_own_environment_are_read(kms: MakeKms, vault: Vault, tmp_path: Path) -> None:
    entry = {
        "KMS_PROVIDER": "vaulttokens",
        "VAULT_ADDR": vault.address,
        "VAULT_BACKEND": "kv",
        "VAULT_BACKEND_PATH": "old",
    }
    (tmp_path / "kms.json").write_text(json.dumps({"far": entry}))
    far = KmsFile(tmp_path / "kms.json", lambda *_: {"token": vault.token("keys")}).find("far")
    far.keep(HOLDER, KEY)
    assert vault.secret(f"old/{HANDLE}") == {"data": {"passphrase": KEY}}
    far.forget(HOLDER)


def test_what_vault_refuses_is_told_with_entry_path_and_what_is_needed(kms: MakeKms, vault: Vault) -> None:
    vault.add_role("reads", policies="reader")
    vault.add_role("elsewhere", policies="keys", bound_service_account_namespaces="shop")
    for keys, said in (
        ({"vaultRole": "nobody"}, "'far'.*auth/kubernetes/login.*vaultRole 'nobody'"),
        ({"vaultRole": "elsewhere"}, "'elsewhere'.*bound to the service account"),
        ({"vaultAuthPath": "/v1/auth/other/login"}, "auth/other/login"),
        ({"vaultRole": "reads"}, f"'far'.*'reads'.*create and update on secret/data/{HANDLE}"),
    ):
        with pytest.raises(AccessDenied, match=said):
            kms(**keys).keep(HOLDER, KEY)
    with pytest.raises(AccessDenied, match=f"delete on secret/metadata/{HANDLE}"):
        kms(vaultRole="reads").forget(HOLDER)
    with pytest.raises(AccessDenied, match=r"nowhere cannot be looked up: name its vaultBackend"):
        kms(vaultBackendPath="nowhere").check(HOLDER)
    for keys in ({"vaultBackendPath": "cubbyhole"}, {"vaultBackendPath": "sys"}):
        with pytest.raises(InvalidRequest, match="no secrets engine KV at"):
            kms(**keys).check(HOLDER)


def test_a_login_that_expires_or_is_revoked_is_made_anew(kms: MakeKms, vault: Vault) -> None:
    vault.add_role("brief", policies="keys", token_ttl="1s", token_max_ttl="1s")
    far = kms(vaultRole="brief")
    far.keep(HOLDER, KEY)
    time.sleep(1.2)
    assert far.fetch(HOLDER, "") == KEY
    steady = kms()
    assert steady.fetch(HOLDER, "") == KEY
    vault.ask("POST", "sys/leases/revoke-prefix/auth/kubernetes/login")
    assert steady.fetch(HOLDER, "") == KEY
    steady.forget(HOLDER)


def test_a_vault_that_is_sealed_or_gone_is_asked_again(kms: MakeKms, vault: Vault) -> None:
    far = kms()
    far.keep(HOLDER, KEY)
    vault.seal()
    for ask in (lambda: far.fetch(HOLDER, ""), lambda: far.forget(HOLDER), lambda: kms().check(HOLDER)):
        with pytest.raises(KmsUnavailable, match=r"'far': Vault at .* is sealed"):
            ask()
    vault.unseal()
    assert far.fetch(HOLDER, "") == KEY
    vault.stop()
    try:
        began = time.monotonic()
        for _ in range(200):  # it is not asked for each of them
            with pytest.raises(KmsUnavailable, match="cannot be reached"):
                far.forget(HOLDER)
        assert time.monotonic() - began < 10
    finally:
        vault.start()
    time.sleep(3.1)
    assert far.fetch(HOLDER, "") == KEY
    far.forget(HOLDER)


def test_the_servers_certificate_is_verified(
    kms: MakeKms, vault: Vault, kubernetes: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csi_driver.kms.vault.ACCOUNT", kubernetes.account)
    secrets = {
        f"{NAMESPACE}/right": {"cert": vault.authority.read_text()},
        f"{NAMESPACE}/wrong": {"cert": (kubernetes.account / "ca.crt").read_text()},
        f"{NAMESPACE}/empty": {},
    }
    named = {"vaultAddress": vault.tls_address, "vaultTLSServerName": "vault.internal"}
    good: tuple[dict[str, Any], ...] = (
        {**named, "vaultCAFromSecret": "right"},
        {**named, "vaultCAFile": str(vault.authority)},
        {"vaultAddress": vault.tls_address, "vaultCAVerify": "false"},
        {"vaultAddress": vault.tls_address, "vaultCAVerify": False},
    )
    for keys in good:
        far = kms(secrets, **keys)
        far.keep(HOLDER, KEY)
        assert far.fetch(HOLDER, "") == KEY
        far.forget(HOLDER)
    for keys in (
        {**named, "vaultCAFromSecret": "wrong"},
        named,
        {"vaultAddress": vault.tls_address, "vaultCAFile": str(vault.authority)},
    ):
        with pytest.raises(KmsUnavailable, match=r"cannot be reached: .*certificate"):
            kms(secrets, **keys).check(HOLDER)
    with pytest.raises(InvalidRequest, match=f"{NAMESPACE}/empty has no cert"):
        kms(secrets, **named, vaultCAFromSecret="empty").check(HOLDER)
