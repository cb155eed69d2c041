"""Keys that a Vault keeps, over the lives of volumes: there for as long as anything may need them, and gone with the last.

The driver logs in with the token of its service account, as in a pod; a real Vault vouches for it, and keeps the keys.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from csi_driver.ceph.api import Create, MetadataWrite, Pool, Write
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests import image_data, luks_file, volume_command
from tests.client import Refusal
from tests.controller.calls import Calls, handle_parts
from tests.controller.test_audit import audit
from tests.controller.test_ceph_csi import plant_ceph_csi_snapshot, plant_ceph_csi_volume
from tests.controller.test_copies import image_of
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver
from tests.fixtures.emptiness import newly_left
from tests.kms.vault import Vault
from tests.kubernetes_api import ApiServer
from tests.wrapped_keys import DEK, STATE, unwrapped

pytestmark = pytest.mark.usefixtures("clean_pool")

SIZE = 8 << 20
PHRASE = "correct horse battery staple"
IN_VAULT = {"encrypted": "true", "encryptionKMSID": "far"}
OF_TENANT = {"encrypted": "true", "encryptionKMSID": "tenant", "csi.storage.k8s.io/pvc/namespace": "shop"}
WRAPPED = {"encrypted": "true", "encryptionKMSID": "sealed"}
THEIR_KEY = "AAECAwQFBgcICQoLDA0ODxAREhM="
WITHIN_S = 90.0


@pytest.fixture
def kms_file(vault: Vault, kubernetes: ApiServer, tmp_path: Path) -> Path:
    kubernetes.put_secret("shop", "ceph-csi-kms-token", token=vault.token("keys"))
    entries = {
        "far": {
            "encryptionKMSType": "vault",
            "vaultAddress": vault.address,
            "vaultServiceAccountTokenFile": str(kubernetes.account / "token"),
        },
        "tenant": {"encryptionKMSType": "vaulttokens", "vaultAddress": vault.address, "vaultBackend": "kv-v2"},
        "sealed": {"encryptionKMSType": "metadata"},
    }
    path = tmp_path / "kms-config.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def driver(start_driver: StartDriver, ceph_dev: DevCeph, kms_file: Path) -> DriverProcess:
    return start_driver("--controller", "--kms-config", str(kms_file), clusters=ceph_dev.config_json)


@pytest.fixture
def calls(driver: DriverProcess, ceph_dev: DevCeph) -> Calls:
    return Calls(driver.rpc, {**ceph_dev.secrets("provisioner"), "encryptionPassphrase": PHRASE})


@pytest.fixture(autouse=True)
def nothing_left(vault: Vault) -> Iterator[None]:
    """Each test ends with an empty Vault."""
    assert vault.names() == set()
    yield
    await_names(vault, set())


def await_names(vault: Vault, names: set[str]) -> None:
    ends = time.monotonic() + WITHIN_S
    while (found := vault.names()) != names:
        assert time.monotonic() < ends, f"kept are {found}"
        time.sleep(0.1)


def key_of(vault: Vault, handle: str) -> str:
    key: str = vault.secret(f"secret/data/{handle}")["data"]["data"]["passphrase"]
    return key


def test_keys_live_as_long_as_anything_may_need_them(
    calls: Calls, vault: Vault, pool: Pool, ceph_dev: DevCeph, tmp_path: Path
) -> None:
    """A snapshot opens with the key of its volume, also when that is deleted; the image's end takes it along."""
    source = calls.create_until_done("source", SIZE, parameters=IN_VAULT)
    other = calls.create_until_done("other", SIZE, parameters=IN_VAULT)
    assert vault.names() == {source.volume_id, other.volume_id}
    key = key_of(vault, source.volume_id)
    assert key != key_of(vault, other.volume_id)
    metadata = pool.images.get_metadata(image_of(source))
    assert (metadata[STATE], DEK in metadata) == ("encryptionPrepared", False)
    image_data.write(ceph_dev, image_of(source), luks_file.formatted(tmp_path / "header", key))
    clone = calls.create_until_done("clone", 0, parameters=IN_VAULT, source=source)
    snapshot = calls.snapshot_until_done("snap", source.volume_id)
    for volume in (source, other, clone):
        calls.delete_until_done(volume.volume_id)
    await_names(vault, {source.volume_id})
    restored = calls.create_until_done("restored", 0, parameters=IN_VAULT, source=snapshot)
    header = tmp_path / "restored"
    header.write_bytes(image_data.read(ceph_dev, image_of(restored), luks_file.BYTES))
    assert luks_file.opens(header, key_of(vault, restored.volume_id))
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    assert vault.names() == {source.volume_id, restored.volume_id}, "the image is the copy's parent still"
    calls.delete_until_done(restored.volume_id)
    await_names(vault, set())


def test_copies_go_between_a_vault_and_wrapped_keys(calls: Calls, vault: Vault, pool: Pool) -> None:
    there = calls.create_until_done("wrapped", SIZE, parameters=WRAPPED)
    far = calls.create_until_done("far", 0, parameters=IN_VAULT, source=there)
    assert DEK not in pool.images.get_metadata(image_of(far))
    back = calls.create_until_done("back", 0, parameters=WRAPPED, source=far)
    kept = [pool.images.get_metadata(image_of(one))[DEK] for one in (there, back)]
    keys = {unwrapped(text, PHRASE, one.volume_id) for text, one in zip(kept, (there, back), strict=True)}
    assert keys == {key_of(vault, far.volume_id)}
    for volume in (back, far, there):
        calls.delete_until_done(volume.volume_id)


def test_neither_audit_nor_rewrap_looks_for_a_key_in_the_image(
    calls: Calls, ceph_dev: DevCeph, pool: Pool, kms_file: Path, tmp_path: Path
) -> None:
    far = calls.create_until_done("far", SIZE, parameters=IN_VAULT)
    wrapped = calls.create_until_done("wrapped", SIZE, parameters=WRAPPED)
    flags = ("--kms-config", str(kms_file))
    assert audit(ceph_dev, *flags) == {}
    pool.images.write_metadata(pool.images.find_id(image_of(wrapped)) or "", MetadataWrite(drop=(DEK,)))
    assert audit(ceph_dev, *flags) == {"missing-key": [handle_parts(wrapped.volume_id)[2]]}
    (tmp_path / "phrase").write_text("x")
    phrases = ("--old", str(tmp_path / "phrase"), "--new", str(tmp_path / "phrase"))
    ended = volume_command.run(ceph_dev.config_json, "rewrap", far.volume_id, *phrases, *flags)
    assert (ended.code, "encryptionKMSID 'far', which wraps no key" in ended.err) == (2, True), ended
    for volume in (far, wrapped):
        calls.delete_until_done(volume.volume_id)


def test_the_token_of_the_claims_namespace_is_used(
    ceph_dev: DevCeph, kubernetes: ApiServer, kms_file: Path, vault: Vault
) -> None:
    flags = ("--controller", "--kms-config", str(kms_file))
    with DriverProcess.start(
        *flags, clusters=ceph_dev.config_json, environment=kubernetes.environment, prefix=kubernetes.as_pod
    ) as driver:
        calls = Calls(driver.rpc, ceph_dev.secrets("provisioner"))
        volume = calls.create_until_done("mine", SIZE, parameters=OF_TENANT)
        assert vault.names() == {volume.volume_id}
        calls.delete_until_done(volume.volume_id)
        await_names(vault, set())
        assert newly_left(ceph_dev) == frozenset(), (
            "the key goes before the entry, and no other driver comes after this one"
        )


def test_a_purge_waits_for_a_vault_that_is_down_and_for_no_other_volume(
    calls: Calls, driver: DriverProcess, vault: Vault, pool: Pool
) -> None:
    far = [calls.create_until_done(f"far-{number}", SIZE, parameters=IN_VAULT) for number in range(3)]
    plain = calls.create_until_done("plain", SIZE)
    vault.stop()
    try:
        answer = calls.try_create("refused", SIZE, parameters=IN_VAULT)
        assert isinstance(answer, Refusal)
        assert (answer.code, "cannot be reached" in answer.message) == (grpc.StatusCode.UNAVAILABLE, True), answer
        for volume in (*far, plain):
            calls.delete_until_done(volume.volume_id)
        uuid = handle_parts(plain.volume_id)[2]
        ends = time.monotonic() + WITHIN_S
        while pool.objects.read(f"csi.volume.{uuid}") is not None or pool.images.list_trash():
            assert time.monotonic() < ends
            time.sleep(0.1)
        for volume in far:
            assert pool.objects.read(f"csi.volume.{handle_parts(volume.volume_id)[2]}") is not None
        driver.kill()
        driver.restart()
    finally:
        vault.start()
    calls.delete_until_done(calls.create_until_done("refused", SIZE, parameters=IN_VAULT).volume_id)
    await_names(vault, set())
    assert "purge waits for a KMS" in driver.log.read_text()


def test_a_purge_waits_for_an_entry_that_is_gone_from_the_file(
    calls: Calls, driver: DriverProcess, vault: Vault, kms_file: Path
) -> None:
    volume = calls.create_until_done("far", SIZE, parameters=IN_VAULT)
    before = kms_file.read_text()
    kms_file.write_text("{}")
    calls.delete_until_done(volume.volume_id)
    ends = time.monotonic() + WITHIN_S
    while "encryptionKMSID is 'far'" not in driver.log.read_text():
        assert time.monotonic() < ends
        time.sleep(0.1)
    assert vault.names() == {volume.volume_id}
    kms_file.write_text(before)
    await_names(vault, set())


def test_a_denied_policy_leaves_nothing_but_a_create_that_goes_on(calls: Calls, vault: Vault) -> None:
    vault.add_role("csi-kubernetes", policies="reader")
    try:
        answer = calls.try_create("denied", SIZE, parameters=IN_VAULT)
        assert isinstance(answer, Refusal)
        assert "needs the capability create and update on secret/data/" in answer.message
    finally:
        vault.add_role("csi-kubernetes", policies="keys")
    volume = calls.create_until_done("denied", SIZE, parameters=IN_VAULT)
    assert vault.names() == {volume.volume_id}
    calls.delete_until_done(volume.volume_id)


def test_what_the_go_driver_keeps_in_a_vault_opens_copies_and_goes_with_its_images(
    calls: Calls, vault: Vault, pool: Pool
) -> None:
    uuid = plant_ceph_csi_volume(pool, "theirs")
    snap_uuid = plant_ceph_csi_snapshot(pool, "their-snap", f"csi-vol-{uuid}")
    for kind, one in (("volume", uuid), ("snap", snap_uuid)):
        keys = {"csi.volume.encryptKMS": "far", "csi.volume.encryptionType": "block"}
        pool.objects.apply(f"csi.{kind}.{one}", Write(create=Create.ENSURE, put=keys))
        handle = f"0001-0003-dev-{pool.pool_id:016x}-{one}"
        vault.ask("POST", f"secret/data/{handle}", {"data": {"data": {"passphrase": THEIR_KEY}}})
    source = calls.create("theirs", parameters=IN_VAULT)
    snapshot = calls.snapshot("their-snap", source.volume_id)
    copies = [
        calls.create_until_done(f"copy-{number}", 0, parameters=IN_VAULT, source=one)
        for number, one in enumerate((source, snapshot))
    ]
    assert {key_of(vault, copy.volume_id) for copy in copies} == {THEIR_KEY}
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    for volume in (*copies, source):
        calls.delete_until_done(volume.volume_id)


CREATE_POINTS = ("keys.keep:before", "keys.keep:after", "images.create:after", "journal.complete:after")
DELETE_POINTS = ("images.purge:after", "keys.forget:before", "keys.forget:after", "journal.forget:after")


@pytest.mark.parametrize("is_copy", [False, True])
def test_a_driver_that_dies_around_a_key_leaves_no_key_and_loses_none(
    calls: Calls, driver: DriverProcess, vault: Vault, *, is_copy: bool
) -> None:
    source = calls.create_until_done("source", SIZE, parameters=IN_VAULT) if is_copy else None
    volumes: list[pb.Volume] = [source] if source else []
    for number, point in enumerate(CREATE_POINTS):
        driver.stop()
        driver.restart({"RBD_CSI_FAILPOINTS": f"{point}=kill"})
        calls.try_create(f"made-{number}", SIZE, parameters=IN_VAULT, source=source)
        driver.await_death()
        driver.restart({})
        volumes.append(calls.create_until_done(f"made-{number}", SIZE, parameters=IN_VAULT, source=source))
    assert vault.names() == {volume.volume_id for volume in volumes}
    assert len({key_of(vault, volume.volume_id) for volume in volumes}) == (1 if is_copy else len(volumes))
    for volume, point in zip(reversed(volumes), (*DELETE_POINTS, ""), strict=False):
        if point:
            driver.stop()
            driver.restart({"RBD_CSI_FAILPOINTS": f"{point}=kill"})
        calls.delete(volume.volume_id)
        if point:
            driver.await_death()
            driver.restart({})
        calls.delete_until_done(volume.volume_id)
    calls.delete_until_done(calls.create_until_done("enters the pool", SIZE).volume_id)
    await_names(vault, set())


def test_a_create_that_is_given_up_leaves_no_key(calls: Calls, driver: DriverProcess, vault: Vault) -> None:
    """Its source is gone when it is repeated, so that it is taken back."""
    source = calls.create_until_done("source", SIZE, parameters=IN_VAULT)
    snapshot = calls.snapshot_until_done("snap", source.volume_id)
    driver.stop()
    driver.restart({"RBD_CSI_FAILPOINTS": "keys.keep:after=kill"})
    calls.try_create("given-up", 0, parameters=IN_VAULT, source=snapshot)
    driver.await_death()
    assert len(vault.names()) == 2
    driver.restart({})
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    refused = calls.refused_at_last("given-up", size_bytes=0, parameters=IN_VAULT, source=snapshot)
    assert refused.code is grpc.StatusCode.NOT_FOUND
    await_names(vault, {source.volume_id})
    calls.delete_until_done(source.volume_id)
