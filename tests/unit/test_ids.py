"""Handles: the text form and what is no handle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi_driver.ids import MAX_CLUSTER_ID_BYTES, MAX_POOL_ID, Handle

CEPH_CSI = "0001-0009-rook-ceph-0000000000000002-50d53503-9da1-11ed-847e-bacf8f2f1297"
PARTS = Handle("rook-ceph", 2, "50d53503-9da1-11ed-847e-bacf8f2f1297")

handles = st.builds(
    Handle,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=16),
    st.integers(0, MAX_POOL_ID),
    st.uuids().map(str),
)


@given(handles)
def test_a_handle_reads_back_as_it_was_written(handle: Handle) -> None:
    assert Handle.parse(str(handle)) == handle


@pytest.mark.parametrize(
    ("text", "handle"),
    [
        (CEPH_CSI, PARTS),
        (
            "0001-0024-fed5480f-f00f-417a-a51d-31d8a8144c03-0000000000000003-6b4a6d4c-3e3a-11ee-9d3b-0a580a810216",
            Handle("fed5480f-f00f-417a-a51d-31d8a8144c03", 3, "6b4a6d4c-3e3a-11ee-9d3b-0a580a810216"),
        ),
        ("0001-0001-a-7fffffffffffffff-" + PARTS.uuid, Handle("a", MAX_POOL_ID, PARTS.uuid)),
        (f"0001-0004-grö-0000000000000002-{PARTS.uuid}", Handle("grö", 2, PARTS.uuid)),  # the length is that of bytes
    ],
)
def test_handles_of_existing_deployments_parse(text: str, handle: Handle) -> None:
    assert Handle.parse(text) == handle
    assert str(handle) == text


def test_the_longest_handle_fits_into_an_identifier_of_csi() -> None:
    """128 bytes (CSI spec, Size Limits), whatever the cluster's id is made of."""
    assert len(str(Handle("é" * (MAX_CLUSTER_ID_BYTES // 2), MAX_POOL_ID, PARTS.uuid)).encode()) == 128


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        CEPH_CSI.upper(),
        CEPH_CSI + "\n",
        " " + CEPH_CSI,
        CEPH_CSI[:-1],
        CEPH_CSI + "0",
        CEPH_CSI.replace("0001-", "0002-", 1),
        CEPH_CSI.replace("-0009-", "-0008-"),
        CEPH_CSI.replace("-0009-", "-000a-"),
        f"0001-0003-grö-0000000000000002-{PARTS.uuid}",
        f"0001-0003-\ud800-0000000000000002-{PARTS.uuid}",
        CEPH_CSI.replace("-0009-", "-ffff-"),
        CEPH_CSI.replace("-0009-rook-ceph", "-0000-"),
        CEPH_CSI.replace("-0000000000000002-", "-8000000000000000-"),
        CEPH_CSI.replace("-0000000000000002-", "--000000000000002-"),
        CEPH_CSI.replace("50d53503", "50d5350٣"),
        str(Handle("x" * (MAX_CLUSTER_ID_BYTES + 1), 1, PARTS.uuid)),
    ],
)
def test_what_is_no_handle_is_the_id_of_nothing(text: str) -> None:
    assert Handle.parse(text) is None


hostile = st.one_of(
    st.text(st.characters(), max_size=200),
    st.tuples(st.integers(0, len(CEPH_CSI)), st.text(st.characters(), max_size=4), st.integers(0, 4)).map(
        lambda edit: CEPH_CSI[: edit[0]] + edit[1] + CEPH_CSI[edit[0] + edit[2] :]
    ),
)


@given(hostile)
def test_no_text_raises_and_what_parses_has_one_form(text: str) -> None:
    """Surrogates, cut letters, wrong lengths: a handle that is read is written the same way."""
    handle = Handle.parse(text)
    assert handle is None or str(handle) == text
