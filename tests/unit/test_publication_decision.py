"""Which nodes may have a volume at once: the table of CSI's ControllerPublishVolume, and the texts in the journal."""

import pytest

from csi_driver.errors import Conflict, InUse
from csi_driver.journal.publications import NodePublication, parse_publications, publications_text
from csi_driver.model import AccessMode, Capability
from csi_driver.operations.publication import Step, decide

M = AccessMode
SINGLE = [mode for mode in M if not mode.is_multi_node]


def wish(mode: AccessMode, *, read_only: bool = False, is_block: bool = True) -> NodePublication:
    return NodePublication(str(Capability(mode, is_block=is_block, fs_type="" if is_block else "xfs")), read_only)


@pytest.mark.parametrize("mode", M)
def test_the_first_node_may_have_it_and_the_same_call_again_is_fine(mode: AccessMode) -> None:
    assert decide({}, "a", wish(mode)) is Step.RECORD
    assert decide({"a": wish(mode)}, "a", wish(mode)) is Step.NOTHING


@pytest.mark.parametrize(
    "other",
    [
        wish(M.SINGLE_NODE_WRITER, read_only=True),
        wish(M.SINGLE_NODE_WRITER, is_block=False),
        wish(M.SINGLE_NODE_MULTI_WRITER),
    ],
    ids=str,
)
def test_the_same_node_in_another_way_is_a_conflict(other: NodePublication) -> None:
    with pytest.raises(Conflict, match="'a'"):
        decide({"a": wish(M.SINGLE_NODE_WRITER)}, "a", other)


@pytest.mark.parametrize("mode", SINGLE)
def test_a_second_node_is_refused_to_single_node_modes_and_the_first_is_named(mode: AccessMode) -> None:
    """Whichever of the two has such a mode."""
    for first, second in ((mode, M.MULTI_NODE_MULTI_WRITER), (M.MULTI_NODE_READER_ONLY, mode), (mode, mode)):
        with pytest.raises(InUse, match="'first'"):
            decide({"first": wish(first)}, "second", wish(second))


@pytest.mark.parametrize("mode", [M.MULTI_NODE_READER_ONLY, M.MULTI_NODE_MULTI_WRITER])
def test_several_nodes_share_what_may_be_shared(mode: AccessMode) -> None:
    assert decide({"a": wish(mode), "b": wish(mode)}, "c", wish(mode)) is Step.RECORD


def test_a_single_writer_has_any_number_of_readers() -> None:
    writer, reader = wish(M.MULTI_NODE_SINGLE_WRITER), wish(M.MULTI_NODE_SINGLE_WRITER, read_only=True)
    assert decide({"a": reader, "b": reader}, "c", writer) is Step.RECORD
    assert decide({"a": writer}, "b", reader) is Step.RECORD
    with pytest.raises(InUse, match="'a'"):
        decide({"a": writer, "b": reader}, "c", writer)
    with pytest.raises(InUse, match="'a'"):
        decide({"a": wish(M.MULTI_NODE_MULTI_WRITER)}, "c", writer)


def test_publications_survive_being_text() -> None:
    """ASCII, as values that are compared have to be; none of them is the empty text that a missing key equals."""
    some = {"knoten-ä": wish(M.SINGLE_NODE_WRITER, is_block=False), "b": wish(M.MULTI_NODE_READER_ONLY, read_only=True)}
    text = publications_text(some)
    assert text.isascii()
    assert parse_publications(text) == some
    assert publications_text({}) == ""
    assert parse_publications("") == {}
