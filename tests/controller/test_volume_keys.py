"""Data keys of volumes in their images' metadata, wrapped as the Go driver does it; copies, crashes, and takeover.

What a copy's key opens is asked of cryptsetup, on the LUKS header that the copy has of its source.
"""

import base64
import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cryptography.exceptions import InvalidTag

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
from tests.wrapped_keys import DEK, STATE, unwrapped, wrapped

pytestmark = pytest.mark.usefixtures("clean_pool")

PHRASE = "correct horse battery staple"
SEALED = {"encrypted": "true", "encryptionKMSID": "sealed"}
BY_SECRETS = {"encrypted": "true"}
SIZE = 8 << 20
THEIR_KEY = "AAECAwQFBgcICQoLDA0ODxAREhM="


@pytest.fixture(scope="module")
def kms_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kms") / "config.json"
    kinds = {"sealed": "metadata", "sealed-too": "metadata", "far": "aws-metadata"}
    path.write_text(json.dumps({kms_id: {"encryptionKMSType": kind} for kms_id, kind in kinds.items()}))
    return path


@pytest.fixture(scope="module")
def keyed_driver(ceph_dev: DevCeph, kms_file: Path) -> Iterator[DriverProcess]:
    flags = ("--controller", "--kms-config", str(kms_file))
    with DriverProcess.start(*flags, clusters=ceph_dev.config_json) as driver:
        yield driver


def calls_with(phrase: str, driver: DriverProcess, ceph: DevCeph) -> Calls:
    secrets = {"encryptionPassphrase": phrase} if phrase else {}
    return Calls(driver.rpc, {**ceph.secrets("provisioner"), **secrets})


@pytest.fixture
def calls(keyed_driver: DriverProcess, ceph_dev: DevCeph) -> Calls:
    return calls_with(PHRASE, keyed_driver, ceph_dev)


def key_of(pool: Pool, volume: pb.Volume, phrase: str = PHRASE) -> str:
    """As the Go driver gets at it."""
    return unwrapped(pool.images.get_metadata(image_of(volume))[DEK], phrase, volume.volume_id)


def test_each_volume_has_a_key_of_its_own_in_the_go_drivers_format(calls: Calls, pool: Pool) -> None:
    one, other = (calls.create(name, SIZE, parameters=SEALED) for name in ("one", "other"))
    assert len({key_of(pool, one), key_of(pool, other)}) == 2
    assert len(base64.urlsafe_b64decode(key_of(pool, one))) == 20
    metadata = pool.images.get_metadata(image_of(one))
    assert metadata[STATE] == "encryptionPrepared"
    assert PHRASE not in str(metadata)
    keys = pool.objects.read(f"csi.volume.{handle_parts(one.volume_id)[2]}") or {}
    assert (keys["csi.volume.encryptKMS"], keys["csi.volume.encryptionType"]) == ("sealed", "block")
    assert PHRASE not in str(keys)
    assert one.volume_context["encryptionKMSID"] == "sealed"
    again = calls.create("one", SIZE, parameters=SEALED)
    assert (again, pool.images.get_metadata(image_of(one))) == (one, metadata)
    with pytest.raises(InvalidTag):
        unwrapped(metadata[DEK], PHRASE, other.volume_id)
    for volume in (one, other):
        calls.delete_until_done(volume.volume_id)


def test_copies_open_with_the_key_that_they_keep_for_themselves(
    calls: Calls, pool: Pool, ceph_dev: DevCeph, tmp_path: Path
) -> None:
    """A clone, a restored snapshot, one of a source that is deleted, a copy of a copy, and one that another KMS keeps."""
    source = calls.create("source", SIZE, parameters=SEALED)
    key = key_of(pool, source)
    image_data.write(ceph_dev, image_of(source), luks_file.formatted(tmp_path / "header", key))
    snapshot = calls.snapshot_until_done("snap", source.volume_id)
    clone = calls.create_until_done("clone", 0, parameters=SEALED, source=source)
    restored = calls.create_until_done("restored", 0, parameters=SEALED, source=snapshot)
    elsewhere = {**SEALED, "encryptionKMSID": "sealed-too"}
    kept_elsewhere = calls.create_until_done("elsewhere", 0, parameters=elsewhere, source=snapshot)
    calls.delete_until_done(source.volume_id)
    late = calls.create_until_done("late", 0, parameters=SEALED, source=snapshot)
    second = calls.create_until_done("second", 0, parameters=SEALED, source=clone)
    copies = (clone, restored, kept_elsewhere, late, second)
    assert len({pool.images.get_metadata(image_of(copy))[DEK] for copy in copies}) == len(copies)
    for copy in copies:
        header = tmp_path / copy.volume_id
        header.write_bytes(image_data.read(ceph_dev, image_of(copy), luks_file.BYTES))
        assert luks_file.opens(header, key_of(pool, copy))
    assert not luks_file.opens(header, PHRASE)
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    for copy in copies:
        calls.delete_until_done(copy.volume_id)


def test_a_copy_is_refused_that_could_not_be_opened(
    calls: Calls, pool: Pool, keyed_driver: DriverProcess, ceph_dev: DevCeph
) -> None:
    """And nothing of it is left; the same call with the right passphrase goes well."""
    source = calls.create("source", SIZE, parameters=SEALED)
    cases: tuple[tuple[str, dict[str, str], grpc.StatusCode, str], ...] = (
        ("another", SEALED, grpc.StatusCode.UNAUTHENTICATED, source.volume_id),
        ("", SEALED, grpc.StatusCode.INVALID_ARGUMENT, "encryptionPassphrase"),
        (PHRASE, BY_SECRETS, grpc.StatusCode.INVALID_ARGUMENT, "encryptionKMSID"),
        (PHRASE, {}, grpc.StatusCode.INVALID_ARGUMENT, "encrypted"),
        (PHRASE, {**SEALED, "encryptionKMSID": "nowhere"}, grpc.StatusCode.INVALID_ARGUMENT, "sealed-too"),
        (PHRASE, {**SEALED, "encryptionKMSID": "far"}, grpc.StatusCode.INVALID_ARGUMENT, "aws-metadata"),
    )
    for phrase, parameters, code, said in cases:
        caller = calls_with(phrase, keyed_driver, ceph_dev)
        refused = caller.refused_at_last("copy", size_bytes=0, parameters=parameters, source=source)
        assert (refused.code, said in refused.message) == (code, True), refused
        assert PHRASE not in refused.message
    names = {image_of(source)}
    assert {name for name in pool.images.list_names() if name.startswith("csi-vol-")} == names
    copy = calls.create_until_done("copy", 0, parameters=SEALED, source=source)
    assert key_of(pool, copy) == key_of(pool, source)
    for volume in (copy, source):
        calls.delete_until_done(volume.volume_id)


@pytest.mark.parametrize(
    ("phrase", "kms_id", "said"),
    [("", "sealed", "encryptionPassphrase"), (PHRASE, "nowhere", "sealed-too"), (PHRASE, "far", "allowed are")],
)
def test_a_volume_without_what_its_key_needs_is_not_made(
    keyed_driver: DriverProcess, ceph_dev: DevCeph, phrase: str, kms_id: str, said: str
) -> None:
    caller = calls_with(phrase, keyed_driver, ceph_dev)
    answer = caller.try_create("refused", SIZE, parameters={**SEALED, "encryptionKMSID": kms_id})
    assert isinstance(answer, Refusal)
    assert (answer.code, said in answer.message) == (grpc.StatusCode.INVALID_ARGUMENT, True), answer


def test_a_source_that_the_passphrase_itself_opens_may_have_copies_with_a_key_of_their_own(
    calls: Calls, pool: Pool
) -> None:
    source = calls.create("source", SIZE, parameters=BY_SECRETS)
    assert DEK not in pool.images.get_metadata(image_of(source))
    copy = calls.create_until_done("copy", 0, parameters=SEALED, source=source)
    assert key_of(pool, copy) == PHRASE
    for volume in (copy, source):
        calls.delete_until_done(volume.volume_id)


def test_a_damaged_key_is_copied_by_nobody_and_the_audit_tells_it(
    calls: Calls, pool: Pool, ceph_dev: DevCeph, kms_file: Path
) -> None:
    flags = ("--kms-config", str(kms_file))
    source = calls.create("source", SIZE, parameters=SEALED)
    image_id = pool.images.find_id(image_of(source)) or ""
    for damage in (MetadataWrite({DEK: "damaged"}), MetadataWrite(drop=(DEK,))):
        assert audit(ceph_dev, *flags).get("missing-key", []) == []
        kept = pool.images.get_metadata(image_of(source))[DEK]
        pool.images.write_metadata(image_id, damage)
        refused = calls.refused_at_last("copy", size_bytes=0, parameters=SEALED, source=source)
        assert (refused.code, source.volume_id in refused.message) == (grpc.StatusCode.INTERNAL, True)
        assert audit(ceph_dev, *flags)["missing-key"] == [handle_parts(source.volume_id)[2]]
        pool.images.write_metadata(image_id, MetadataWrite({DEK: kept}))
    calls.delete_until_done(source.volume_id)


CREATE_POINTS = ("keys.keep:before", "keys.keep:after", "images.create:after")
COPY_POINTS = ("keys.fetch:before", "keys.fetch:after", "images.clone:after", *CREATE_POINTS)


@pytest.fixture
def dying(start_driver: StartDriver, ceph_dev: DevCeph, kms_file: Path) -> DriverProcess:
    return start_driver("--controller", "--kms-config", str(kms_file), clusters=ceph_dev.config_json)


@pytest.mark.parametrize("is_copy", [False, True])
def test_a_create_that_is_killed_around_its_key_ends_with_one_volume_and_its_own_key(
    dying: DriverProcess, ceph_dev: DevCeph, pool: Pool, *, is_copy: bool
) -> None:
    """What was made with a key that no entry tells is not handed out: it is made anew."""
    calls = calls_with(PHRASE, dying, ceph_dev)
    source = calls.create_until_done("source", SIZE, parameters=SEALED) if is_copy else None
    volumes = [source] if source else []
    for number, point in enumerate(COPY_POINTS if is_copy else CREATE_POINTS):
        dying.stop()
        dying.restart({"RBD_CSI_FAILPOINTS": f"{point}=kill"})
        calls.try_create(f"made-{number}", SIZE, parameters=SEALED, source=source)
        dying.await_death()
        dying.restart({})
        volumes.append(calls.create_until_done(f"made-{number}", SIZE, parameters=SEALED, source=source))
    assert len({key_of(pool, volume) for volume in volumes}) == (1 if is_copy else len(volumes))
    images = {name for name in pool.images.list_names() if name.startswith("csi-vol-")}
    assert images == {image_of(volume) for volume in volumes}
    for volume in volumes:
        calls.delete_until_done(volume.volume_id)


@pytest.fixture
def rewrap(ceph_dev: DevCeph, kms_file: Path, tmp_path: Path) -> Callable[..., volume_command.Ended]:
    """The command, with the old and the new passphrase."""

    def run(handle: str, old: str, new: str, failpoints: str = "") -> volume_command.Ended:
        flags = ["--kms-config", str(kms_file)]
        for name, phrase in (("old", old), ("new", new)):
            (tmp_path / name).write_text(phrase)
            flags += [f"--{name}", str(tmp_path / name)]
        return volume_command.run(ceph_dev.config_json, "rewrap", handle, *flags, failpoints=failpoints)

    return run


@pytest.mark.parametrize("point", ["", "keys.rewrap:before", "keys.rewrap:after"])
def test_keys_are_wrapped_with_another_passphrase_and_open_what_they_did(
    calls: Calls, pool: Pool, rewrap: Callable[..., volume_command.Ended], *, point: str
) -> None:
    """A command that is killed is repeated. The old passphrase is refused afterwards; older snapshots are restored."""
    source = calls.create_until_done("source", SIZE, parameters=SEALED)
    snapshot = calls.snapshot_until_done("snap", source.volume_id)
    key, metadata = key_of(pool, source), pool.images.get_metadata(image_of(source))
    if point:
        assert rewrap(source.volume_id, PHRASE, "another", f"{point}=kill").code == -signal.SIGKILL
    for turn in range(2):
        ended = rewrap(source.volume_id, PHRASE, "another\n")
        assert ended.code == 0, ended.err
        assert ("already" in ended.out) is (turn == 1 or point.endswith("after"))
    assert key_of(pool, source, "another") == key
    assert {**pool.images.get_metadata(image_of(source)), DEK: ""} == {**metadata, DEK: ""}
    refused = calls.refused_at_last("copy", size_bytes=0, parameters=SEALED, source=snapshot)
    assert refused.code is grpc.StatusCode.UNAUTHENTICATED
    with_new = replace(calls, secrets={**calls.secrets, "encryptionPassphrase": "another"})
    copy = with_new.create_until_done("copy", 0, parameters=SEALED, source=snapshot)
    assert key_of(pool, copy, "another") == key
    ended = rewrap(copy.volume_id, "neither", "of them")
    assert (ended.code, "does not unwrap" in ended.err) == (1, True), ended
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    for volume in (copy, source):
        calls.delete_until_done(volume.volume_id)


def test_what_has_no_wrapped_key_is_not_rewrapped(calls: Calls, rewrap: Callable[..., volume_command.Ended]) -> None:
    plain, by_secrets = calls.create("plain", SIZE), calls.create("by-secrets", SIZE, parameters=BY_SECRETS)
    gone = by_secrets.volume_id[:-12] + "0" * 12
    for handle, code, said in (
        (plain.volume_id, 2, "is not encrypted"),
        (by_secrets.volume_id, 2, "encryptionKMSID 'default'"),
        (gone, 1, "there is no volume"),
        ("nonsense", 2, "not a volume's handle"),
    ):
        ended = rewrap(handle, "x", "y")
        assert (ended.code, said in ended.err) == (code, True), ended
    for volume in (plain, by_secrets):
        calls.delete_until_done(volume.volume_id)


def _their_encryption(pool: Pool, kind: str, uuid: str, image: str, handle: str, *, old: bool) -> None:
    """As the Go driver leaves it. old: with the spelling of its early releases."""
    dot = "." if old else ""
    keys = {"csi.volume.encryptKMS": "sealed", "csi.volume.encryptionType": "block"}
    pool.objects.apply(f"csi.{kind}.{uuid}", Write(create=Create.ENSURE, put=keys))
    metadata = {f"{dot}{STATE}": "encrypted", f"{dot}{DEK}": wrapped(THEIR_KEY, PHRASE, handle)}
    drop = () if old else (f".{STATE}", f".{DEK}")
    pool.images.write_metadata(pool.images.find_id(image) or "", MetadataWrite(metadata, drop))


def test_a_key_that_was_wrapped_for_the_handle_on_a_cluster_that_is_gone_is_unwrapped_on_the_one_in_its_place(
    start_driver: StartDriver, ceph_dev: DevCeph, pool: Pool, kms_file: Path, tmp_path: Path
) -> None:
    """After a fail-over; the copy's key is wrapped for the handle that the copy is given."""
    mapping = tmp_path / "cluster-mapping.json"
    mapping.write_text(
        json.dumps([{"clusterIDMapping": {"gone": "dev"}, "RBDPoolIDMapping": [{"77": str(pool.pool_id)}]}])
    )
    flags = ("--controller", "--kms-config", str(kms_file), "--cluster-mapping", str(mapping))
    calls = calls_with(PHRASE, start_driver(*flags, clusters=ceph_dev.config_json), ceph_dev)
    uuid = plant_ceph_csi_volume(pool, "theirs")
    gone = f"0001-0004-gone-{77:016x}-{uuid}"
    _their_encryption(pool, "volume", uuid, f"csi-vol-{uuid}", gone, old=False)
    source = pb.Volume(volume_id=gone)
    copy = calls.create_until_done("copy", 0, parameters=SEALED, source=source)
    assert key_of(pool, copy) == THEIR_KEY
    wrong = replace(calls, secrets={**calls.secrets, "encryptionPassphrase": "another"})
    refused = wrong.refused_at_last("no", size_bytes=0, parameters=SEALED, source=source)
    assert refused.code is grpc.StatusCode.UNAUTHENTICATED
    for volume_id in (copy.volume_id, gone):
        calls.delete_until_done(volume_id)


@pytest.mark.parametrize("old", [False, True])
def test_copies_of_what_the_go_driver_has_encrypted_have_its_key(calls: Calls, pool: Pool, old: bool) -> None:
    """Its snapshot is an image with a key of its own, wrapped for the snapshot's handle."""
    uuid = plant_ceph_csi_volume(pool, "theirs")
    handle_of: Callable[[str], str] = lambda one: f"0001-0003-dev-{pool.pool_id:016x}-{one}"  # noqa: E731
    _their_encryption(pool, "volume", uuid, f"csi-vol-{uuid}", handle_of(uuid), old=old)
    snap_uuid = plant_ceph_csi_snapshot(pool, "their-snap", f"csi-vol-{uuid}")
    _their_encryption(pool, "snap", snap_uuid, f"csi-snap-{snap_uuid}", handle_of(snap_uuid), old=old)
    source = calls.create("theirs", parameters=SEALED)
    assert source.volume_id == handle_of(uuid)
    snapshot = calls.snapshot("their-snap", source.volume_id)
    native = calls.snapshot_until_done("native", source.volume_id)
    copies = [
        calls.create_until_done(f"copy-{number}", 0, parameters=SEALED, source=one)
        for number, one in enumerate((source, snapshot, native))
    ]
    for copy in copies:
        assert key_of(pool, copy) == THEIR_KEY
        assert f".{DEK}" not in pool.images.get_metadata(image_of(copy))
    for one in (native, snapshot):
        calls.delete_snapshot_until_done(one.snapshot_id)
    for volume in (*copies, source):
        calls.delete_until_done(volume.volume_id)
