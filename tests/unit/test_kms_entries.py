"""The file of KMS entries: what it may hold, and what is said of the rest."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from csi_driver.config import DEFAULT_KMS_FILE, ConfigError
from csi_driver.errors import Inconsistent, InvalidRequest, Unauthenticated
from csi_driver.kms.api import KeyHolder
from csi_driver.kms.entries import KmsFile
from csi_driver.kms.vault_entry import Login, parse_vault
from tests.unit.test_key_wrapping import BY_GO, HANDLE, KEY, PHRASE

HOLDER = KeyHolder(HANDLE, PHRASE)


def no_secret(namespace: str, name: str) -> Mapping[str, str]:
    raise AssertionError(f"{namespace}/{name} was read")


def entries(path: Path, **content: Any) -> KmsFile:
    (path / "config.json").write_text(json.dumps(content))
    return KmsFile(path / "config.json", no_secret)


@pytest.mark.parametrize(
    "entry",
    [
        {"encryptionKMSType": "metadata"},
        {"encryptionKMSType": "secrets-metadata"},
        {"KMS_PROVIDER": "metadata", "a key of the other driver's": {"x": 1}},
    ],
)
def test_the_kind_that_keeps_keys_in_metadata_wraps_and_unwraps(tmp_path: Path, entry: object) -> None:
    kms = entries(tmp_path, sealed=entry).find("sealed")
    assert kms.has_key_per_volume
    assert kms.fetch(HOLDER, BY_GO) == KEY
    assert kms.fetch(HOLDER, kms.keep(HOLDER, KEY)) == KEY
    assert kms.new_key(HOLDER) != kms.new_key(HOLDER)


@pytest.mark.parametrize("secret", [{"secretName": "phrases"}, {"secretName": "phrases", "secretNamespace": "vaults"}])
def test_the_passphrase_may_be_that_of_a_named_secret(tmp_path: Path, secret: dict[str, str]) -> None:
    """In the namespace of the claim, unless the entry names another. What the call brings is not looked at."""
    read: list[str] = []

    def read_secret(namespace: str, name: str) -> Mapping[str, str]:
        read.append(f"{namespace}/{name}")
        return {"encryptionPassphrase": PHRASE} if len(read) < 3 else {"other": "x"}

    (tmp_path / "config.json").write_text(json.dumps({"sealed": {"encryptionKMSType": "metadata", **secret}}))
    kms = KmsFile(tmp_path / "config.json", read_secret).find("sealed")
    holder = KeyHolder(HANDLE, "another", "shop")
    kms.check(holder)
    assert kms.fetch(holder, BY_GO) == KEY
    where = f"{secret.get('secretNamespace', 'shop')}/phrases"
    assert read == [where, where]
    with pytest.raises(InvalidRequest, match=f"{where} has no encryptionPassphrase"):
        kms.check(holder)
    if "secretNamespace" not in secret:
        with pytest.raises(InvalidRequest, match="secretNamespace"):
            kms.check(KeyHolder(HANDLE))


def test_without_a_file_the_passphrase_of_the_secrets_is_the_key() -> None:
    for path in (None, DEFAULT_KMS_FILE):
        kms = KmsFile(path, no_secret).find("default")
        assert not kms.has_key_per_volume
        assert (kms.keep(HOLDER, PHRASE), kms.fetch(HOLDER, "")) == ("", PHRASE)
        with pytest.raises(InvalidRequest, match=r"encryptionKMSID is 'default'.*allowed is"):
            kms.keep(HOLDER, KEY)
        with pytest.raises(InvalidRequest, match="encryptionPassphrase"):
            kms.fetch(KeyHolder(HANDLE), "")
        with pytest.raises(InvalidRequest, match=r"encryptionKMSID is 'sealed'; allowed are default \("):
            KmsFile(path, no_secret).find("sealed")


def test_what_is_wrong_with_a_kept_key_is_told_apart(tmp_path: Path) -> None:
    kms = entries(tmp_path, sealed={"encryptionKMSType": "metadata"}).find("sealed")
    with pytest.raises(Unauthenticated, match=HANDLE):
        kms.fetch(KeyHolder(HANDLE, "another"), BY_GO)
    with pytest.raises(Inconsistent, match="no key in its metadata"):
        kms.fetch(HOLDER, "")
    with pytest.raises(Inconsistent, match="cannot be read"):
        kms.fetch(HOLDER, "{}")
    for ask in (lambda: kms.check(KeyHolder("")), lambda: kms.fetch(KeyHolder(HANDLE), BY_GO)):
        with pytest.raises(InvalidRequest, match="encryptionPassphrase"):
            ask()


def test_a_kind_of_the_go_driver_that_is_not_offered_hinders_no_other_entry(tmp_path: Path) -> None:
    file = entries(tmp_path, far={"encryptionKMSType": "aws-sts-metadata"}, near={"encryptionKMSType": "metadata"})
    assert file.find("near").kms_id == "near"
    with pytest.raises(
        InvalidRequest, match=r"'far', whose entry has encryptionKMSType 'aws-sts-metadata'; allowed are"
    ):
        file.find("far")
    with pytest.raises(InvalidRequest, match="allowed are default, far, near"):
        file.find("nowhere")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not JSON"),
        ("[]", "not an object"),
        ('{"a": 1}', "entry 'a'"),
        ('{"": {}}', "entry ''"),
        ('{"a": {}}', "entry 'a': encryptionKMSType is missing; allowed are"),
        ('{"a": {"encryptionKMSType": 5}}', "encryptionKMSType is 5"),
        ('{"a": {"encryptionKMSType": "metadata", "secretName": ["x"]}}', r"secretName is \['x'\]"),
        ('{"a": {"encryptionKMSType": "metadata", "secretName": "a\\nb"}}', "secretName is"),
        ('{"a": {"encryptionKMSType": "metadata", "secretNamespace": "b"}}', "secretName is missing"),
        ('{"a": {"encryptionKMSType": "vault"}}', "entry 'a': vaultAddress is ''"),
        ('{"a": {"encryptionKMSType": "vaulttokens", "vaultAddress": "vault:8200"}}', "vaultAddress is 'vault:8200'"),
        ('{"a": {"encryptionKMSType": "vault", "vaultAddress": "http://v", "vaultRole": 1}}', "vaultRole is 1"),
        (
            '{"a": {"encryptionKMSType": "vault", "vaultAddress": "http://v", "vaultCAVerify": "so"}}',
            "allowed are true and",
        ),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_entry_field_and_value(
    tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=said):
        KmsFile(tmp_path / "config.json", no_secret)


@pytest.mark.parametrize("key", ["tenants", "vaultClientCertFromSecret", "vaultClientCertKeyFromSecret"])
def test_an_entry_of_a_vault_that_asks_for_more_is_refused_when_it_is_used(tmp_path: Path, key: str) -> None:
    vault = {"encryptionKMSType": "vaulttokens", "vaultAddress": "http://v"}
    file = entries(tmp_path, far={**vault, key: "x"}, near={**vault, key: ""})
    assert not file.find("near").is_in_metadata
    with pytest.raises(InvalidRequest, match=f"'far', whose entry has {key}, which is not offered"):
        file.find("far")


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("", "kubernetes"),
        ("/v1/auth/kubernetes/login", "kubernetes"),
        ("/v1/auth/clusters/one/login", "clusters/one"),
        ("auth/k8s", "k8s"),
        ("k8s", "k8s"),
    ],
)
def test_the_way_to_log_in_is_read_as_the_go_driver_reads_it(path: str, mount: str) -> None:
    keys = {"vaultAddress": "http://v", **({"vaultAuthPath": path} if path else {})}
    auth = parse_vault("far", keys, has_tokens=False).auth
    assert isinstance(auth, Login)
    assert (auth.mount, auth.role) == (mount, "csi-kubernetes")


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing-here"):
        KmsFile(tmp_path / "nothing-here", no_secret)


def test_a_changed_file_is_read_anew_and_one_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    file = entries(tmp_path, one={"encryptionKMSType": "metadata"})
    path = tmp_path / "config.json"
    for content, known in (('{"two": {"encryptionKMSType": "metadata"}}', "two"), ("broken", "two")):
        new = tmp_path / "new"
        new.write_text(content)
        new.replace(path)
        assert file.find(known).kms_id == known
    with pytest.raises(InvalidRequest, match="allowed are default, two"):
        file.find("one")
