"""A volume that was staged by hand in the Go driver's layout is grown, unpublished and unstaged by this driver."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from csi_driver.pb import csi_pb2 as pb
from tests.node.bench import MIB, SIZE_MIB, Bench

pytestmark = pytest.mark.attacher("krbd")

PHRASE = "correct horse battery staple"


def run(*command: str | Path, said: str | None = None) -> str:
    words, environment = [str(word) for word in command], {**os.environ, "DM_DISABLE_UDEV": "1"}
    ended = subprocess.run(words, input=said, capture_output=True, text=True, timeout=180, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def stage_as_go(bench: Bench, volume_id: str, *, encrypted: bool) -> Path:
    """The record before the map, the device in it afterwards; mapper name, staging path and mount options as there."""
    place = bench.staging(volume_id)
    place.mkdir(parents=True)
    record = {"Version": 3, "pool": bench.setting.pool, "radosNamespace": "", "image": volume_id, "unmapOptions": ""}
    record |= {"accessType": False, "encrypted": encrypted, "device": "", "logDir": "", "logFileStrategy": ""}
    (place / "image-meta.json").write_text(json.dumps(record, separators=(",", ":")))
    device = Path(bench.ceph.rbd("map", "--options", "noudev", bench.image(volume_id)).strip())
    (place / "image-meta.json").write_text(json.dumps({**record, "device": str(device)}, separators=(",", ":")))
    if encrypted:
        mapper = f"luks-rbd-{volume_id}"
        quick = ("--pbkdf-force-iterations", "4", "--pbkdf-memory", "32768")
        run("cryptsetup", "-q", "luksFormat", "--type", "luks2", *quick, device, "-d", "-", said=PHRASE)
        options = ("--disable-keyring", "--allow-discards")
        run("cryptsetup", "luksOpen", device, mapper, *options, "-d", "-", said=PHRASE)
        device = Path("/dev/mapper") / mapper
    run("mkfs.ext4", "-q", "-m0", "-Enodiscard,lazy_itable_init=1,lazy_journal_init=1", device)
    (place / volume_id).mkdir()
    run("mount", "-t", "ext4", "-o", "_netdev", device, place / volume_id)
    return place / volume_id


@pytest.mark.parametrize("encrypted", [False, True])
def test_what_the_go_driver_has_staged_is_used_and_taken_back(bench: Bench, *, encrypted: bool) -> None:
    volume_id = bench.new_volume()
    staged = stage_as_go(bench, volume_id, encrypted=encrypted)
    (staged / "file").write_text("kept")
    target = bench.target()
    target.mkdir()
    run("mount", "--bind", staged, target)
    bench.resize(volume_id, 2 * SIZE_MIB)
    bench.node.NodeExpandVolume(pb.NodeExpandVolumeRequest(volume_id=volume_id, volume_path=str(target)))
    stats = pb.NodeGetVolumeStatsRequest(volume_id=volume_id, volume_path=str(target))
    assert bench.node.NodeGetVolumeStats(stats).usage[0].total > 1.7 * SIZE_MIB * MIB
    context = {"encrypted": "true"} if encrypted else {}
    again = bench.stage_request(volume_id, **context)
    again.secrets["encryptionPassphrase"] = PHRASE
    bench.until_ok(bench.node.NodeStageVolume, again)
    assert (target / "file").read_text() == "kept"
    bench.unpublish(volume_id)
    bench.unstage(volume_id)
    assert bench.leftovers() == []
