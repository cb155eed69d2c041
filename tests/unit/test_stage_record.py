"""image-meta.json, byte by byte: the Go driver's, read by this one; this one's, with all that the Go driver reads of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from csi_driver.errors import Inconsistent
from csi_driver.host.api import Attachment
from csi_driver.model import AccessMode, Capability
from csi_driver.operations import stage_record
from csi_driver.operations.stage_record import StagePlace, StageRecord

VOLUME = "0001-0009-rook-ceph-0000000000000002-50d53503-9da1-11ed-847e-bacf8f2f1297"
IMAGE = "csi-vol-50d53503-9da1-11ed-847e-bacf8f2f1297"

# Of Go's encoding/json, with the fields in the order of the Go driver's structure.
BY_GO = {
    "kernel": (
        f'{{"Version":3,"pool":"kubernetes","radosNamespace":"","image":"{IMAGE}","unmapOptions":"","accessType":false,'
        '"encrypted":false,"device":"/dev/rbd0","logDir":"","logFileStrategy":""}'
    ),
    "nbd": (
        f'{{"Version":3,"pool":"kubernetes","radosNamespace":"tenant\\u003c1\\u003e","image":"{IMAGE}",'
        '"unmapOptions":"nbd:force","accessType":true,"encrypted":true,"device":"/dev/nbd3","logDir":"/var/log/ceph",'
        '"logFileStrategy":"remove"}'
    ),
    "before its map": (
        f'{{"Version":3,"pool":"kubernetes","radosNamespace":"","image":"{IMAGE}","unmapOptions":"","accessType":false,'
        '"encrypted":true,"device":"","logDir":"","logFileStrategy":""}'
    ),
}
READ = {
    "kernel": StageRecord(Attachment(VOLUME, "kubernetes", "", IMAGE, False), "krbd", None, device="/dev/rbd0"),
    "nbd": StageRecord(
        Attachment(VOLUME, "kubernetes", "tenant<1>", IMAGE, False),
        "nbd",
        None,
        unmap_options="nbd:force",
        device="/dev/nbd3",
        is_encrypted=True,
    ),
    "before its map": StageRecord(Attachment(VOLUME, "kubernetes", "", IMAGE, False), "krbd", None, is_encrypted=True),
}
OURS = (
    f'{{"Version": 3, "pool": "kubernetes", "radosNamespace": "tenant", "image": "{IMAGE}", "unmapOptions": "krbd:force", '
    '"accessType": false, "encrypted": true, "device": "/dev/rbd7", "logDir": "", "logFileStrategy": "", '
    f'"rbdCsi": {{"volume": "{VOLUME}", "attacher": "krbd", "capability": {{"mode": "SINGLE_NODE_WRITER", "block": false, '
    '"fsType": "ext4", "mountFlags": ["noatime"]}, "readOnly": false, "formatting": ""}}'
).encode()
RECORD = StageRecord(
    Attachment(VOLUME, "kubernetes", "tenant", IMAGE, False),
    "krbd",
    Capability(AccessMode.SINGLE_NODE_WRITER, is_block=False, fs_type="ext4", mount_flags=("noatime",)),
    unmap_options="krbd:force",
    device="/dev/rbd7",
    is_encrypted=True,
)
KEYS_OF_GO: dict[str, type] = {
    "Version": int,
    "pool": str,
    "radosNamespace": str,
    "image": str,
    "unmapOptions": str,
    "accessType": bool,
    "encrypted": bool,
    "device": str,
    "logDir": str,
    "logFileStrategy": str,
}


def place(path: Path, text: str | bytes) -> StagePlace:
    (path / "image-meta.json").write_bytes(text.encode() if isinstance(text, str) else text)
    return StagePlace(path, VOLUME)


@pytest.mark.parametrize("what", BY_GO)
def test_a_record_of_the_go_driver_is_read(tmp_path: Path, what: str) -> None:
    assert stage_record.load(place(tmp_path, BY_GO[what])) == READ[what]


def test_a_record_is_written_as_these_bytes_and_read_again(tmp_path: Path) -> None:
    stage_record.save(StagePlace(tmp_path, VOLUME), RECORD)
    assert (tmp_path / "image-meta.json").read_bytes() == OURS
    assert (tmp_path / "image-meta.json").stat().st_mode & 0o777 == 0o600
    assert stage_record.load(StagePlace(tmp_path, VOLUME)) == RECORD


@pytest.mark.parametrize("attacher", ["krbd", "nbd"])
def test_a_written_record_has_every_key_that_the_go_drivers_unstage_reads_and_its_type(
    tmp_path: Path, attacher: str
) -> None:
    """It drops what it does not know when it writes the record anew: what is left then is read by this driver as its own."""
    record = StageRecord(RECORD.attachment, attacher, RECORD.capability, device="/dev/x", is_encrypted=True)
    stage_record.save(StagePlace(tmp_path, VOLUME), record)
    values: dict[str, Any] = json.loads((tmp_path / "image-meta.json").read_bytes())
    assert {key: type(values[key]) for key in KEYS_OF_GO} == KEYS_OF_GO
    assert (values["Version"], values["accessType"], values["encrypted"]) == (3, attacher == "nbd", True)
    of_go = json.dumps({key: values[key] for key in KEYS_OF_GO}, separators=(",", ":"))
    found = stage_record.load(place(tmp_path, of_go))
    assert found == StageRecord(record.attachment, attacher, None, device="/dev/x", is_encrypted=True)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"pool": "p"}', '{"pool": "p", "image": "i", "rbdCsi": {"volume": "x"}}']
)
def test_what_is_no_record_of_this_volume_is_not_taken_for_one(tmp_path: Path, text: str) -> None:
    if "rbdCsi" in text:
        assert stage_record.load(place(tmp_path, text)) is None
    else:
        with pytest.raises(Inconsistent, match=r"image-meta\.json"):
            stage_record.load(place(tmp_path, text))
