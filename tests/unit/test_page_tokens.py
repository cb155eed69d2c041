"""Tokens of listings: every place survives being text, nothing else is taken for one, and none is too long."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi_driver.errors import BadPageToken
from csi_driver.operations.listing import Last, Position
from csi_driver.rpc.page_tokens import MAX_BYTES, parse_token, token_of

UUID = "50d53503-9da1-11ed-847e-bacf8f2f1297"
IDS = ("dev", "ä" * 32, "x" * 64)

places = st.builds(
    Last,
    by_key=st.builds(Position, st.sampled_from(IDS), st.integers(0, (1 << 63) - 1), st.text(min_size=1, max_size=150)),
    by_entry=st.builds(
        Position,
        st.sampled_from(IDS),
        st.integers(0, (1 << 63) - 1),
        st.just(UUID),
        st.just(True),
        st.integers(0, (1 << 63) - 1),
    ),
)


@given(last=places)
def test_a_place_is_found_again_by_its_token(last: Last) -> None:
    """By its key, or by the entry where the key does not fit the size that CSI allows."""
    token = token_of(last)
    assert len(token.encode()) <= MAX_BYTES
    assert parse_token(token, IDS) in (last.by_key, last.by_entry)


def test_a_name_of_kubernetes_is_in_the_token_itself() -> None:
    """So that the listing goes on after it whatever became of the volume."""
    at = Position("x" * 64, (1 << 63) - 1, f"csi.volume.pvc-{UUID}")
    token = token_of(Last(at, replace(at, after=UUID, is_entry=True)))
    assert parse_token(token, IDS) == at


def test_no_token_is_the_beginning_and_the_end_has_none() -> None:
    assert parse_token("", IDS) is None
    assert token_of(None) == ""


GOOD = token_of(Last(Position("dev", 2, "csi.volume.a"), Position("dev", 2, UUID, is_entry=True)))


@pytest.mark.parametrize(
    "token", ["invalid-token", "0", GOOD[:-1], GOOD + "A", GOOD.swapcase(), "ä", "\0", GOOD[4:], "A" * len(GOOD)]
)
def test_what_was_never_given_is_refused(token: str) -> None:
    with pytest.raises(BadPageToken, match="starting_token"):
        parse_token(token, IDS)


def test_a_token_of_a_cluster_that_is_gone_is_refused() -> None:
    with pytest.raises(BadPageToken):
        parse_token(GOOD, ("other",))
