"""What a CreateVolume does next: the rows of the journal's crash table, and in what two requests differ."""

import json
from dataclasses import replace

import pytest

from csi_driver.errors import Conflict
from csi_driver.journal.entries import VolumeEntry
from csi_driver.journal.layout import State
from csi_driver.journal.reading import Reserved
from csi_driver.model import AccessMode, Capability, CapacityRange, ImageLayout, VolumeSpec
from csi_driver.operations.agreement import agreed, difference
from csi_driver.operations.creation import Step, decide

GIB = 1 << 30
UUID = "11111111-2222-3333-4444-555555555555"

SPEC = VolumeSpec(
    name="pvc-1",
    cluster_id="c",
    pool="p",
    capacity=CapacityRange(GIB),
    size_bytes=GIB,
    capabilities=(
        Capability(AccessMode.SINGLE_NODE_WRITER, is_block=False, fs_type="ext4"),
        Capability(AccessMode.MULTI_NODE_READER_ONLY, is_block=False, fs_type="ext4"),
    ),
    layout=ImageLayout(("layering", "exclusive-lock")),
    owner="shop",
    metadata={"csi.storage.k8s.io/pvc/name": "db"},
    context={"clusterID": "c", "mounter": "fuse"},
)
OTHER = replace(SPEC, image_prefix="other-")


def entry(state: State = State.COMPLETE, spec: VolumeSpec = SPEC) -> VolumeEntry:
    """As it is read back: the request has been JSON in between."""
    request = None if state is State.FOREIGN else json.loads(json.dumps(agreed(spec)))
    size_bytes = 0 if state is State.FOREIGN else spec.size_bytes
    return VolumeEntry(UUID, state, spec.name, f"csi-vol-{UUID}", request=request, size_bytes=size_bytes)


K = Reserved(UUID)


@pytest.mark.parametrize(
    ("reserved", "found", "step"),
    [
        pytest.param(None, None, Step.CLAIM, id="- - -"),
        pytest.param(K, None, Step.BEGIN, id="K - -"),
        pytest.param(K, entry(State.MAKING), Step.TAKE_OVER, id="K O ? making"),
        pytest.param(K, entry(State.COMPLETE), Step.REUSE, id="K O I complete"),
        pytest.param(K, entry(State.FOREIGN), Step.REUSE, id="K O I of ceph-csi"),
        pytest.param(K, entry(State.DELETING), Step.FINISH_DELETE, id="K O ? deleting"),
        pytest.param(K, entry(State.TRASHED), Step.DROP_NAME, id="K O T trashed, by a late write"),
        pytest.param(K, entry(State.RESTORING), Step.AWAIT_UNDELETE, id="K O I restoring"),
        pytest.param(K, entry(State.PURGING), Step.DROP_NAME, id="K O ? purging, by a late write"),
    ],
)
def test_each_row_of_the_crash_table_has_its_step(
    reserved: Reserved | None, found: VolumeEntry | None, step: Step
) -> None:
    assert decide(SPEC, reserved, found) is step


@pytest.mark.parametrize("state", list(State), ids=lambda state: state or "foreign")
def test_another_request_is_refused_by_a_volume_that_lives_and_by_no_other(state: State) -> None:
    """What is on its way out frees its name, whoever asks."""
    found = entry(state)
    if state in (State.MAKING, State.FLATTENING, State.COMPLETE):
        with pytest.raises(Conflict, match=r"'pvc-1' is taken.*imagePrefix is 'csi-vol-', asked for is 'other-'"):
            decide(OTHER, K, found)
    else:
        assert decide(OTHER, K, found) is decide(SPEC, K, found)


def test_a_smaller_foreign_volume_is_left_to_its_image() -> None:
    """Its entry does not know its size; one that does is compared."""
    wanted = replace(SPEC, capacity=CapacityRange(2 * GIB), size_bytes=2 * GIB)
    assert decide(wanted, K, entry(State.FOREIGN)) is Step.REUSE
    with pytest.raises(Conflict, match="bytes"):
        decide(wanted, K, replace(entry(State.FOREIGN), size_bytes=GIB))


@pytest.mark.parametrize(
    "same",
    [
        SPEC,
        replace(SPEC, capabilities=SPEC.capabilities[::-1]),
        replace(SPEC, layout=ImageLayout(("exclusive-lock", "layering"))),
        replace(SPEC, owner="other", metadata={}),
        replace(SPEC, capacity=CapacityRange(0), size_bytes=7 * GIB),
        replace(SPEC, capacity=CapacityRange(1, GIB), size_bytes=1 << 20),
        replace(SPEC, context={"mounter": "fuse", "clusterID": "c"}),
    ],
    ids=["equal", "capabilities' order", "features' order", "owner", "no size", "size within the range", "keys' order"],
)
def test_a_repeated_request_agrees(same: VolumeSpec) -> None:
    assert difference(same, entry()) == ""


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            replace(SPEC, capacity=CapacityRange(GIB + 1)),
            f"it has {GIB} bytes, asked for are at least {GIB + 1}",
        ),
        (
            replace(SPEC, capacity=CapacityRange(1, GIB - 1)),
            f"it has {GIB} bytes, asked for are at least 1 and at most {GIB - 1}",
        ),
        (
            replace(SPEC, capabilities=SPEC.capabilities[:1]),
            (
                "capabilities is ['mount(ext4)/MULTI_NODE_READER_ONLY', 'mount(ext4)/SINGLE_NODE_WRITER'], "
                "asked for is ['mount(ext4)/SINGLE_NODE_WRITER']"
            ),
        ),
        (
            replace(SPEC, layout=replace(SPEC.layout, object_size_bytes=4096)),
            "layout.object_size_bytes is 4194304, asked for is 4096",
        ),
        (
            replace(SPEC, layout=replace(SPEC.layout, data_pool="d")),
            "layout.data_pool is '', asked for is 'd'",
        ),
        (
            replace(SPEC, layout=replace(SPEC.layout, features=("layering",))),
            "layout.features is ['exclusive-lock', 'layering'], asked for is ['layering']",
        ),
        (replace(SPEC, context={"clusterID": "c"}), "context.mounter is 'fuse', asked for is None"),
        (
            replace(SPEC, context={**SPEC.context, "mkfsOptions": "-m1"}),
            "context.mkfsOptions is None, asked for is '-m1'",
        ),
    ],
    ids=["larger", "above the limit", "capabilities", "object size", "data pool", "features", "key gone", "key new"],
)
def test_a_difference_is_said_by_its_path_with_both_values(other: VolumeSpec, said: str) -> None:
    assert difference(other, entry()) == said


def test_all_differences_are_said_together() -> None:
    other = replace(OTHER, capacity=CapacityRange(2 * GIB), context={"clusterID": "c", "mounter": "nbd"})
    said = difference(other, entry())
    assert [part.split()[0] for part in said.split("; ")] == ["it", "context.mounter", "imagePrefix"]


def test_the_capabilities_differ_in_what_the_node_does_with_them() -> None:
    """Block or mount, file system, mode; mount flags belong to a stage, not to the volume."""
    base = Capability(AccessMode.SINGLE_NODE_WRITER, is_block=False, fs_type="ext4")
    others = (
        replace(base, fs_type="xfs"),
        replace(base, fs_type=""),
        replace(base, is_block=True, fs_type=""),
        replace(base, mode=AccessMode.SINGLE_NODE_MULTI_WRITER),
    )
    found = entry(spec=replace(SPEC, capabilities=(base,)))
    for one in others:
        assert "capabilities" in difference(replace(SPEC, capabilities=(one,)), found)
    assert difference(replace(SPEC, capabilities=(replace(base, mount_flags=("noatime",)),)), found) == ""
