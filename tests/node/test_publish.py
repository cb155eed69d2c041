"""NodePublishVolume and NodeUnpublishVolume on staged volumes."""

import json
from typing import Any

import pytest

from csi_driver.pb import csi_pb2 as pb
from tests.node.bench import BLOCK, Bench, Code, capability

ONE_TARGET = ("SINGLE_NODE_WRITER", "SINGLE_NODE_SINGLE_WRITER", "SINGLE_NODE_READER_ONLY")
SEVERAL_TARGETS = ("SINGLE_NODE_MULTI_WRITER", "MULTI_NODE_READER_ONLY")
SEVERAL_TARGETS_BLOCK = ("MULTI_NODE_SINGLE_WRITER", "MULTI_NODE_MULTI_WRITER")


def formatted(bench: Bench) -> str:
    """A volume that readers can stage, too."""
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    bench.unstage(volume_id)
    return volume_id


@pytest.mark.parametrize("block", [False, True], ids=["mount", "block"])
@pytest.mark.parametrize("mode", ONE_TARGET)
def test_a_second_target_is_refused_and_not_made(bench: Bench, mode: str, block: bool) -> None:
    """The first is named, and goes on."""
    volume_id, wanted = formatted(bench), capability(mode, block=block)
    bench.stage(volume_id, wanted)
    first = bench.publish(volume_id, wanted)
    request = bench.publish_request(volume_id, wanted, name="pod-2")
    assert str(first) in bench.message(bench.node.NodePublishVolume, request)
    assert bench.code(bench.node.NodePublishVolume, request) is Code.FAILED_PRECONDITION
    assert not bench.target("pod-2").exists()
    assert len(bench.mounts()) == 2
    bench.unpublish(volume_id)
    bench.publish(volume_id, wanted, name="pod-2")


@pytest.mark.parametrize(
    ("mode", "block"),
    [*((mode, False) for mode in SEVERAL_TARGETS), *((mode, True) for mode in SEVERAL_TARGETS_BLOCK)],
)
def test_several_targets_are_allowed(bench: Bench, mode: str, block: bool) -> None:
    """The end of one leaves the other."""
    volume_id, wanted = formatted(bench), capability(mode, block=block)
    bench.stage(volume_id, wanted)
    bench.publish(volume_id, wanted)
    second = bench.publish(volume_id, wanted, name="pod-2")
    assert len(bench.mounts()) == 3
    bench.unpublish(volume_id)
    assert second.is_block_device() if block else second.is_mount()


@pytest.mark.parametrize(
    "change",
    [
        {"readonly": True},
        {"wanted": capability("SINGLE_NODE_MULTI_WRITER")},
        {"wanted": capability(flags=["noatime"])},
        {"wanted": capability("SINGLE_NODE_READER_ONLY")},
    ],
)
def test_the_same_target_with_other_arguments_is_refused(bench: Bench, change: dict[str, Any]) -> None:
    """CSI, NodePublishVolume: ALREADY_EXISTS; what is published stays as it is, after a restart too."""
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    target = bench.publish(volume_id)
    bench.restart()
    request = bench.publish_request(volume_id, **change)
    assert bench.code(bench.node.NodePublishVolume, request) is Code.ALREADY_EXISTS
    (target / "file").write_text("still writable")
    bench.publish(volume_id)


@pytest.mark.parametrize("fs_type", ["ext4", "xfs"])
def test_a_read_only_publication_cannot_be_written_while_another_can(bench: Bench, fs_type: str) -> None:
    volume_id, wanted = bench.new_volume(), capability("SINGLE_NODE_MULTI_WRITER", fs_type=fs_type)
    bench.stage(volume_id, wanted)
    reader = bench.publish(volume_id, wanted, readonly=True)
    writer = bench.publish(volume_id, wanted, name="pod-2")
    (writer / "file").write_text("seen")
    assert (reader / "file").read_text() == "seen"
    with pytest.raises(OSError, match="Read-only file system"):
        (reader / "file").write_text("changed")
    bench.publish(volume_id, wanted, readonly=True)
    flipped = bench.publish_request(volume_id, wanted)
    assert bench.code(bench.node.NodePublishVolume, flipped) is Code.ALREADY_EXISTS


def test_a_read_only_mode_implies_a_read_only_publication(bench: Bench) -> None:
    volume_id, wanted = formatted(bench), capability("SINGLE_NODE_READER_ONLY")
    bench.stage(volume_id, wanted)
    for readonly in (False, True):
        target = bench.publish(volume_id, wanted, readonly=readonly)
    with pytest.raises(OSError, match="Read-only file system"):
        (target / "file").write_text("changed")


def test_a_volume_that_is_not_staged_there_is_refused(bench: Bench) -> None:
    """Never staged, staged elsewhere, or unstaged; the target is not made."""
    volume_id, other = bench.new_volume(), bench.new_volume()
    bench.staging(volume_id).mkdir(parents=True)
    bench.stage(other)
    elsewhere = bench.publish_request(volume_id)
    elsewhere.staging_target_path = str(bench.staging(other))
    for request in (bench.publish_request(volume_id), elsewhere):
        assert bench.code(bench.node.NodePublishVolume, request) is Code.FAILED_PRECONDITION
        assert not bench.target().exists()


@pytest.mark.parametrize(("staged", "published"), [(capability(), BLOCK), (BLOCK, capability())])
def test_the_access_type_is_that_of_the_stage(bench: Bench, staged: Any, published: Any) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id, staged)
    request = bench.publish_request(volume_id, published)
    assert bench.code(bench.node.NodePublishVolume, request) is Code.FAILED_PRECONDITION
    assert not bench.target().exists()


def test_a_writer_on_a_stage_of_a_reader_is_refused(bench: Bench) -> None:
    volume_id = formatted(bench)
    bench.stage(volume_id, capability("MULTI_NODE_READER_ONLY"))
    assert bench.code(bench.node.NodePublishVolume, bench.publish_request(volume_id)) is Code.FAILED_PRECONDITION


def test_a_target_that_is_taken_is_refused(bench: Bench) -> None:
    """By another volume, or by something that is no target."""
    volume_id, other = bench.new_volume(), bench.new_volume()
    bench.stage(volume_id)
    bench.stage(other)
    bench.publish(other)
    assert bench.code(bench.node.NodePublishVolume, bench.publish_request(volume_id)) is Code.ALREADY_EXISTS
    file = bench.target("pod-2")
    file.write_text("somebody's")
    request = bench.publish_request(volume_id, name="pod-2")
    assert bench.code(bench.node.NodePublishVolume, request) is Code.ALREADY_EXISTS
    assert file.read_text() == "somebody's"
    file.unlink()


@pytest.mark.parametrize("block", [False, True], ids=["mount", "block"])
def test_a_symbolic_link_in_the_way_of_a_target_is_refused(bench: Bench, block: bool) -> None:
    """Publish and unpublish; what it points to is not touched."""
    volume_id, wanted = bench.new_volume(), capability(block=block)
    bench.stage(volume_id, wanted)
    elsewhere = bench.directory / "elsewhere"
    elsewhere.mkdir()
    target = bench.target()
    for link in (target, target.parent):
        if link != target:
            link.rmdir()
        link.symlink_to(elsewhere)
        request = bench.publish_request(volume_id, wanted)
        assert bench.code(bench.node.NodePublishVolume, request) is Code.FAILED_PRECONDITION
        refused = bench.unpublish_request(volume_id)
        assert bench.code(bench.node.NodeUnpublishVolume, refused) is Code.FAILED_PRECONDITION
        assert list(elsewhere.iterdir()) == []
        link.unlink()
    assert len(bench.mounts()) == 1


def test_a_publish_that_fails_leaves_neither_target_nor_entry(bench: Bench) -> None:
    """Here the target's parent is missing."""
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    request = bench.publish_request(volume_id)
    bench.target().parent.rmdir()
    assert bench.code(bench.node.NodePublishVolume, request) is Code.INVALID_ARGUMENT
    assert not bench.target().exists()
    entries = json.loads((bench.staging(volume_id) / "publications.json").read_text())
    assert entries == {}
    bench.publish(volume_id, name="pod-2")


@pytest.mark.parametrize("block", [False, True], ids=["mount", "block"])
def test_a_target_that_the_orchestrator_made_is_used(bench: Bench, block: bool) -> None:
    volume_id, wanted = bench.new_volume(), capability(block=block)
    bench.stage(volume_id, wanted)
    target = bench.target()
    if block:
        target.touch()
    else:
        target.mkdir()
    bench.publish(volume_id, wanted)
    assert target.is_block_device() if block else target.is_mount()


def test_unpublish_of_what_was_never_published_is_ok_and_removes_an_empty_target(bench: Bench) -> None:
    bench.unpublish("fake-vol-id")
    bench.target("pod-2").mkdir()
    bench.unpublish("fake-vol-id", name="pod-2")
    assert not bench.target("pod-2").exists()


def test_unpublish_never_removes_content_or_another_volumes_mount(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    target = bench.publish(volume_id)
    other = bench.unpublish_request(volume_id)
    other.volume_id = "vol-other"
    assert bench.code(bench.node.NodeUnpublishVolume, other) is Code.NOT_FOUND
    assert target.is_mount()
    kept = bench.target("pod-2")
    kept.mkdir()
    (kept / "file").write_text("kept")
    request = bench.unpublish_request(volume_id, name="pod-2")
    assert bench.code(bench.node.NodeUnpublishVolume, request) is Code.FAILED_PRECONDITION
    assert (kept / "file").read_text() == "kept"
    (kept / "file").unlink()


def test_unpublish_waits_for_who_uses_the_target(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    target = bench.publish(volume_id)
    with (target / "file").open("w") as opened:
        request = bench.unpublish_request(volume_id)
        assert bench.code(bench.node.NodeUnpublishVolume, request) is Code.UNAVAILABLE
        opened.write("still writable")
    bench.unpublish(volume_id)


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [
        ("NodePublishVolume", "volume_id", ""),
        ("NodePublishVolume", "target_path", ""),
        ("NodePublishVolume", "target_path", "some/path"),
        ("NodePublishVolume", "target_path", "/a/../b"),
        ("NodePublishVolume", "staging_target_path", ""),
        ("NodeStageVolume", "volume_id", ""),
        ("NodeStageVolume", "staging_target_path", ""),
        ("NodeUnpublishVolume", "volume_id", ""),
        ("NodeUnpublishVolume", "target_path", ""),
        ("NodeUnstageVolume", "volume_id", ""),
        ("NodeUnstageVolume", "staging_target_path", ""),
        ("NodeGetVolumeStats", "volume_id", ""),
        ("NodeGetVolumeStats", "volume_path", ""),
        ("NodeExpandVolume", "volume_id", ""),
        ("NodeExpandVolume", "volume_path", ""),
    ],
)
def test_a_missing_or_malformed_field_is_named(bench: Bench, method: str, field: str, value: str) -> None:
    requests = {
        "NodeStageVolume": bench.stage_request("vol-1"),
        "NodeUnstageVolume": bench.unstage_request("vol-1"),
        "NodePublishVolume": bench.publish_request("vol-1"),
        "NodeUnpublishVolume": bench.unpublish_request("vol-1"),
        "NodeGetVolumeStats": pb.NodeGetVolumeStatsRequest(volume_id="vol-1", volume_path="/somewhere"),
        "NodeExpandVolume": pb.NodeExpandVolumeRequest(volume_id="vol-1", volume_path="/somewhere"),
    }
    request = requests[method]
    setattr(request, field, value)
    call = getattr(bench.node, method)
    assert field in bench.message(call, request)
    assert bench.code(call, request) is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["NodeStageVolume", "NodePublishVolume"])
def test_a_capability_is_required(bench: Bench, method: str) -> None:
    request: Any = bench.stage_request("vol-1") if method == "NodeStageVolume" else bench.publish_request("vol-1")
    request.ClearField("volume_capability")
    assert bench.code(getattr(bench.node, method), request) is Code.INVALID_ARGUMENT
