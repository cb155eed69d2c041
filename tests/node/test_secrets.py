"""Keys and passphrases are nowhere that others may look, while calls run, succeed and fail."""

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from uuid import uuid4

import grpc
import pytest

from csi_driver.cli.node_half import RUN_DIRECTORY
from csi_driver.dev.inventory import Place, leftovers
from csi_driver.dev.layout import DevCeph
from csi_driver.host.commands import run
from csi_driver.pb import csi_pb2 as pb
from tests.client import Refusal, refusal
from tests.controller.calls import Calls
from tests.driver import DriverProcess
from tests.node.bench import KINDS
from tests.node.exposure import Hunt
from tests.node.test_fencing import Node, driver_name, remove_node

pytestmark = pytest.mark.attacher("fuse")

PASSPHRASE = f"open sesame {token_hex(8)}"
PHRASE = {"encryptionPassphrase": PASSPHRASE}
WRONG_KEY = "AQBfJAFrAAAAABAA+pU5pUf/WWUWiLjE1Tz+GSg=="
NO_KEY = f"not base64 {token_hex(8)}"
_RUN_BY_A_STAGE = {"qemu-storage-daemon", "losetup", "mkfs.ext4", "mount", "umount"}


@pytest.fixture
def hunt(ceph_dev: DevCeph, tmp_path: Path) -> Hunt:
    keys = [ceph_dev.keys[user] for user in ("provisioner", "node")]
    return Hunt(tmp_path / "hunt", (*keys, PASSPHRASE, WRONG_KEY, NO_KEY))


@pytest.fixture
def node(ceph_dev: DevCeph, hunt: Hunt, tmp_path: Path) -> Iterator[Node]:
    """Both halves, which tell all that they do, and write nothing but into directories that are looked at."""
    (tmp_path / "temporary").mkdir()
    (tmp_path / "kms.json").write_text('{"sealed": {"encryptionKMSType": "metadata"}}')
    driver = DriverProcess.start(
        *("--driver-name", driver_name("secrets"), "--log-level", "debug", "--log-format", "json"),
        *("--trace", str(tmp_path / "temporary" / "trace")),
        *("--kms-config", str(tmp_path / "kms.json")),
        clusters=ceph_dev.config_json,
        node_id="secrets",
        environment={"PATH": hunt.path, "TMPDIR": str(tmp_path / "temporary")},
    )
    directory = Path(tempfile.mkdtemp(prefix="secrets-"))  # short: sockets lie below it
    node = Node(driver, "secrets", directory, ceph_dev.secrets("node"))
    try:
        yield node
    finally:
        remove_node(node)


def test_no_secret_is_shown_while_calls_succeed_and_fail(
    ceph_dev: DevCeph, node: Node, hunt: Hunt, tmp_path: Path
) -> None:
    calls = Calls(node.driver.rpc, ceph_dev.secrets("provisioner"))
    where = (node.directory, RUN_DIRECTORY / driver_name(node.name), tmp_path / "temporary", node.driver.directory)
    answers: list[Refusal | None] = []
    with hunt.watching():
        volume = calls.create_until_done("plain", 64 << 20, parameters={"encrypted": "false"})
        encrypted = calls.create_until_done("encrypted", 64 << 20, parameters={"encrypted": "true"})
        keyed, sealed = (
            replace(calls, secrets={**calls.secrets, **PHRASE}),
            {"encrypted": "true", "encryptionKMSID": "sealed"},
        )
        wrapped = keyed.create_until_done("wrapped", 64 << 20, parameters=sealed)
        wrapped_again = keyed.create_until_done("again", 64 << 20, parameters=sealed, source=wrapped)
        answers.append(calls.refused_at_last("no", parameters=sealed, source=wrapped))
        snapshot = calls.snapshot_until_done("snapshot", volume.volume_id)
        copy = calls.create_until_done("copy", 64 << 20, source=snapshot)
        node.attach(volume.volume_id, "ext4", {})
        answers += failing_calls(calls, node, volume, encrypted)
        # cryptsetup is given the passphrase, whether or not this kernel can open what it has formatted
        staged = stage(node, encrypted, {**node.secrets, **PHRASE})
        answers += [staged] if staged else []
        assert hunt.look_at_files(*where) > len(where)
        unstage(node, encrypted)
        node.detach(volume.volume_id)
        # before anything is deleted: an export that meets a purge fails
        run(("rados", "-c", str(ceph_dev.conf), "-p", "rbd", "export", str(tmp_path / "pool")), timeout_s=120)
        for one in (copy, encrypted, volume, wrapped_again, wrapped):
            calls.delete_until_done(one.volume_id)
        calls.delete_snapshot_until_done(snapshot.snapshot_id)
    for answer in answers:
        assert answer is not None
        hunt.look_at(answer.message.encode(), f"answer {answer}")
    hunt.look_at_files(*where)
    hunt.look_at((tmp_path / "pool").read_bytes(), "the pool")
    assert hunt.found == set()
    assert hunt.looks > 0
    assert hunt.programs() >= _RUN_BY_A_STAGE
    assert "cryptsetup" in hunt.programs() or (staged and staged.code is grpc.StatusCode.FAILED_PRECONDITION), staged
    assert "NodeStageVolume" in node.driver.log_text()
    assert leftovers(ceph_dev, Place("rbd")) == frozenset()


def test_the_hunt_finds_what_is_shown(tmp_path: Path) -> None:
    """In the environment and the arguments of a program that ends at once, in one that lives, and in a file."""
    shown = [f"{where}-{uuid4()}" for where in ("environment", "arguments", "process", "file")]
    in_environment, in_arguments, in_process, in_file = shown
    hunt = Hunt(tmp_path / "hunt", (*shown, f"nowhere-{uuid4()}"))
    (tmp_path / "file").write_text(f"a secret: {in_file}")
    environment = {"PATH": hunt.path, "X": in_environment}
    with subprocess.Popen(["sh", "-c", "read -r line", in_process], stdin=subprocess.PIPE) as living:
        with hunt.watching():
            subprocess.run(["mount", "--version", in_arguments], env=environment, check=False, capture_output=True)
            hunt.await_look()
        living.kill()
    hunt.look_at_files(tmp_path)
    assert {text.split()[1] for text in hunt.found} == {"0", "1", "2", "3"}


def failing_calls(calls: Calls, node: Node, volume: pb.Volume, encrypted: pb.Volume) -> list[Refusal | None]:
    """Each with a secret, right or wrong, and refused."""
    refused = list[Refusal | None]()
    for key in (WRONG_KEY, NO_KEY):
        wrong = replace(calls, secrets={"userID": "provisioner", "userKey": key})
        refused += [
            wrong.refused_at_last("no"),
            wrong.delete(volume.volume_id),
            wrong.delete_snapshot(volume.volume_id),
            outcome(wrong.try_snapshot("no", volume.volume_id)),
            outcome(wrong.expand(volume.volume_id, 1 << 30)),
            stage(node, encrypted, {"userID": "node", "userKey": key, **PHRASE}),
        ]
    refused += [
        calls.refused_at_last("no-pool", parameters={"pool": "no-such-pool"}),
        calls.refused_at_last("bad", parameters={"imageFeatures": "no-such-feature"}),
        stage(node, volume, {**node.secrets, **PHRASE}, "no-such-directory"),
    ]
    return refused


def outcome(answer: object) -> Refusal | None:
    return answer if isinstance(answer, Refusal) else None


def stage(node: Node, volume: pb.Volume, secrets: dict[str, str], directory: str = "other") -> Refusal | None:
    staging = node.directory / directory
    if directory == "other":
        staging.mkdir(exist_ok=True)
    request = pb.NodeStageVolumeRequest(
        volume_id=volume.volume_id,
        staging_target_path=str(staging),
        volume_capability=KINDS["ext4"],
        secrets=secrets,
        volume_context=volume.volume_context,
    )
    return refusal(node.driver.rpc.node.NodeStageVolume, request)


def unstage(node: Node, volume: pb.Volume) -> None:
    request = pb.NodeUnstageVolumeRequest(volume_id=volume.volume_id, staging_target_path=str(node.directory / "other"))
    node.driver.rpc.node.NodeUnstageVolume(request)
