"""Which size an image gets for a requested range."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from csi_driver.errors import InvalidRequest, OutOfRange
from csi_driver.model import CapacityRange
from csi_driver.rpc.sizes import DEFAULT_BYTES, MAX_OBJECTS, MIB, SECTOR, check_range, choose_size

GIB = 1 << 30
TIB = 1 << 40
LARGEST = MAX_OBJECTS * 4 * MIB

sizes = st.one_of(st.integers(0, 4 * GIB), st.integers(0, LARGEST), st.integers(0, 4096).map(lambda n: n * MIB))
rooms = st.one_of(st.integers(0, 2 * MIB), st.integers(0, 8 * SECTOR), st.integers(0, TIB))


@given(required=sizes, room=rooms)
def test_a_size_is_whole_sectors_within_the_range(required: int, room: int) -> None:
    """And a whole number of MiB where the range has one; none that fits is missed."""
    assume(required)
    limit = required + room
    capacity = CapacityRange(required, limit)
    fits = [max(-(-required // unit) * unit, MIB) for unit in (MIB, SECTOR)]
    fits = [size for size in fits if size <= limit]
    if not fits:
        with pytest.raises(OutOfRange, match="no size fits"):
            choose_size(capacity)
        return
    size = choose_size(capacity)
    assert capacity.holds(size)
    assert size % SECTOR == 0
    assert size == fits[0], "the smallest one, of MiB before that of sectors"


@given(required=sizes)
def test_without_a_limit_the_size_is_the_next_whole_mib(required: int) -> None:
    assume(required)
    assert 0 <= choose_size(CapacityRange(required)) - required < MIB
    assert choose_size(CapacityRange(required)) % MIB == 0


@given(limit=st.integers(1, 4 * GIB))
def test_with_a_limit_alone_the_size_is_the_default_or_what_the_limit_allows(limit: int) -> None:
    if limit < MIB:
        with pytest.raises(OutOfRange):
            choose_size(CapacityRange(0, limit))
        return
    size = choose_size(CapacityRange(0, limit))
    assert size <= limit
    assert size == DEFAULT_BYTES or limit - size < SECTOR


def test_without_a_wish_the_size_is_the_default() -> None:
    assert choose_size(CapacityRange()) == DEFAULT_BYTES


@pytest.mark.parametrize("object_size_bytes", [4096, 4 * MIB, 32 * MIB])
def test_the_largest_image_is_what_its_object_map_holds(object_size_bytes: int) -> None:
    largest = MAX_OBJECTS * object_size_bytes
    assert choose_size(CapacityRange(largest), object_size_bytes=object_size_bytes) == largest
    with pytest.raises(OutOfRange, match=str(largest)):
        choose_size(CapacityRange(largest + 1), object_size_bytes=object_size_bytes)


@pytest.mark.parametrize(
    ("required", "limit", "error", "said"),
    [
        (-1, 0, InvalidRequest, "required_bytes is -1"),
        (0, -1, InvalidRequest, "limit_bytes is -1"),
        (2, 1, OutOfRange, "limit_bytes 1 is below required_bytes 2"),
    ],
)
def test_a_range_that_is_none_is_refused(required: int, limit: int, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        check_range(required, limit)


@given(required=st.integers(0, 1 << 63), room=st.integers(0, 1 << 62))
def test_a_range_is_taken_as_it_was_given(required: int, room: int) -> None:
    assert check_range(required, required + room) == CapacityRange(required, required + room)


def test_a_file_system_that_needs_more_gets_more_where_the_limit_allows_it() -> None:
    """A claim of 1 MiB for xfs would be a volume that no node can format."""
    smallest = 300 * MIB
    assert choose_size(CapacityRange(MIB), smallest_bytes=smallest) == smallest
    assert choose_size(CapacityRange(GIB), smallest_bytes=smallest) == GIB
    with pytest.raises(OutOfRange, match=str(smallest)):
        choose_size(CapacityRange(MIB, 2 * MIB), smallest_bytes=smallest)
