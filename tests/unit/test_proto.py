"""proto/csi.proto is the official contract, and the stubs are what it gives."""

from pathlib import Path

import pytest

from tests.proto import contract, stubs

OURS = stubs.ROOT / "proto" / "csi.proto"


def test_our_file_is_the_official_contract() -> None:
    """Every name, number, type and option equals the official release's: the digests are one."""
    assert contract.digest(contract.elements(OURS)) == contract.DIGEST


@pytest.mark.parametrize(
    ("kept", "changed"),
    [
        ("string volume_id = 2;", "string volume_id = 12;"),
        ("int64 capacity_bytes = 1;", "uint64 capacity_bytes = 1;"),
        ("secrets = 5 [(csi_secret) = true];", "secrets = 5;"),
        ("returns (stream GetMetadataDeltaResponse)", "returns (GetMetadataDeltaResponse)"),
        ("reserved 11;", "reserved 11, 99;"),
        ("oneof access_type {", "oneof access {"),
        ("SINGLE_NODE_READER_ONLY = 2;", "SINGLE_NODE_READER = 2;"),
    ],
)
def test_a_changed_contract_has_another_digest(kept: str, changed: str, tmp_path: Path) -> None:
    """A changed number, type, option, stream, reservation, oneof or name does not pass as the official contract."""
    text = OURS.read_text()
    assert kept in text
    altered = tmp_path / "csi.proto"
    altered.write_text(text.replace(kept, changed, 1))
    assert contract.digest(contract.elements(altered)) != contract.DIGEST


def test_the_committed_stubs_are_those_of_our_file() -> None:
    """Generating anew with the pinned generators writes the bytes that are committed."""
    assert stubs.stale_files() == []
