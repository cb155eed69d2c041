"""What becomes of a copy by its depth, and what is done with an image of the flatten queue."""

from dataclasses import replace

import pytest

from csi_driver.errors import InvalidRequest
from csi_driver.journal.layout import State
from csi_driver.model import FlattenMode, FlattenPolicy
from csi_driver.operations.depth import Plan, plan
from csi_driver.operations.flatten_course import Verdict
from csi_driver.operations.flattening import PATIENCE_S, Found, Step, decide, verdict
from csi_driver.rpc.parameters import parse_class

LAZY, ALWAYS, NEVER = (FlattenPolicy(mode, 2, 4) for mode in FlattenMode)


@pytest.mark.parametrize(
    ("policy", "plans"),
    [
        (LAZY, [Plan.KEEP, Plan.KEEP, Plan.KEEP, Plan.QUEUE, Plan.WAIT, Plan.WAIT]),
        (ALWAYS, [Plan.KEEP, Plan.QUEUE, Plan.QUEUE, Plan.QUEUE, Plan.WAIT, Plan.WAIT]),
        (NEVER, [Plan.KEEP, Plan.KEEP, Plan.KEEP, Plan.KEEP, Plan.REFUSE, Plan.REFUSE]),
    ],
)
def test_a_copy_is_kept_queued_held_back_or_refused_by_its_depth(policy: FlattenPolicy, plans: list[Plan]) -> None:
    assert [plan(policy, depth) for depth in range(6)] == plans


CHILD = Found(
    State.COMPLETE,
    has_header=True,
    can_be_opened=True,
    has_parent=True,
    has_link=True,
    is_listed=True,
    has_deep_flatten=False,
    is_watched=False,
)
FLAT = replace(CHILD, has_parent=False, has_link=False, is_listed=False)
CUT_SHORT = replace(CHILD, can_be_opened=False, has_parent=False, is_listed=False)


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (CHILD, Step.FLATTEN),
        (replace(CHILD, state=State.FLATTENING), Step.FLATTEN),
        (FLAT, Step.FINISH),
        (replace(CHILD, has_parent=False, has_snaps=True), Step.FINISH),
        (replace(CHILD, is_listed=False), Step.REPAIR),
        (replace(CHILD, is_listed=False, is_watched=True), Step.REPAIR),
        (replace(CHILD, is_listed=False, has_snaps=True), Step.LIST_AGAIN),
        (replace(CHILD, is_listed=False, has_snaps=True, has_deep_flatten=True), Step.REPAIR),
        (replace(CHILD, is_listed=False, has_parent=False, has_snaps=True), Step.LIST_AGAIN),
        (replace(CHILD, is_watched=True), Step.PUT_OFF),
        (replace(CHILD, is_watched=True, waited_s=PATIENCE_S + 1), Step.FLATTEN),
        (replace(CHILD, state=State.TRASHED), Step.DROP),
        (replace(CHILD, state=State.TRASHED, has_snaps=True), Step.FLATTEN),
        (replace(CHILD, state=State.TOMBSTONE, has_snaps=True), Step.FLATTEN),
        (replace(FLAT, state=State.TOMBSTONE, has_snaps=True), Step.DROP),
        (replace(CHILD, state=None), Step.DROP),
        (replace(CHILD, state=State.PURGING), Step.DROP),
        (replace(CHILD, has_header=False, can_be_opened=False), Step.DROP),
        (CUT_SHORT, Step.REPAIR),
        (replace(CUT_SHORT, state=State.TRASHED), Step.REPAIR),
        (replace(CUT_SHORT, state=State.MAKING), Step.DROP),
        (replace(CUT_SHORT, is_listed=True), Step.PUT_OFF),
        (replace(CUT_SHORT, has_link=False), Step.PUT_OFF),
    ],
)
def test_an_image_of_the_queue_is_repaired_only_when_it_was_cut_short(found: Found, step: Step) -> None:
    assert decide(found) is step


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (CHILD, Verdict.GO_ON),
        (replace(CHILD, is_watched=True), Verdict.STOP),
        (replace(CHILD, is_watched=True, waited_s=PATIENCE_S + 1), Verdict.GO_SLOWLY),
        (replace(CHILD, state=State.TRASHED), Verdict.STOP),
        (FLAT, Verdict.STOP),
    ],
)
def test_a_flatten_gives_way_to_clients_and_ends_with_its_volume(found: Found, said: Verdict) -> None:
    assert verdict(found) is said


CLASS = {"clusterID": "dev", "pool": "rbd"}


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        ({}, FlattenPolicy(FlattenMode.LAZY, 4, 8)),
        ({"flatten": "always"}, FlattenPolicy(FlattenMode.ALWAYS, 4, 8)),
        ({"hardCloneDepth": "3"}, FlattenPolicy(FlattenMode.LAZY, 3, 3)),
        ({"flatten": "never", "softCloneDepth": "2", "hardCloneDepth": "16"}, FlattenPolicy(FlattenMode.NEVER, 2, 16)),
    ],
)
def test_a_class_says_when_copies_are_flattened(given: dict[str, str], policy: FlattenPolicy) -> None:
    assert parse_class({**CLASS, **given}).flatten == policy


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"flatten": "Lazy"}, "parameter flatten is 'Lazy'; allowed are lazy, always, never"),
        ({"hardCloneDepth": "17"}, "parameter hardCloneDepth is '17'; allowed are whole numbers from 1 to 16"),
        ({"softCloneDepth": "0"}, "parameter softCloneDepth is '0'"),
        ({"softCloneDepth": "two"}, "parameter softCloneDepth is 'two'"),
        ({"softCloneDepth": "9"}, "parameter softCloneDepth is 9; allowed is at most hardCloneDepth, which is 8"),
    ],
)
def test_a_wrong_depth_parameter_is_refused_with_what_is_allowed(given: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        parse_class({**CLASS, **given})
