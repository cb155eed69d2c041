"""docs/parameters.md and the parser say the same: every key, what is allowed, and the defaults."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from csi_driver import mutable
from csi_driver.errors import InvalidRequest
from csi_driver.host import filesystems
from csi_driver.model import KUBERNETES_METADATA, CloneFormat, FlattenMode, FlattenPolicy
from csi_driver.rpc import mutable_parameters, parameters
from csi_driver.rpc.encryption_parameters import CIPHERS, SECTOR_SIZES
from csi_driver.rpc.mutable_parameters import parse_mutable
from csi_driver.rpc.parameters import ClassParameters, parse_class

_PAGE = Path(__file__).parents[2] / "docs" / "parameters.md"
_REQUIRED = {"clusterID": "c", "pool": "p"}


def _section(title: str) -> str:
    return re.split(r"^## ", _PAGE.read_text().partition(f"## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def _rows(title: str) -> dict[str, list[str]]:
    """The cells of each row behind its key; a key is the first cell's one code word."""
    rows = [line.strip("| ").split(" | ") for line in _section(title).splitlines() if line.startswith("| `")]
    return {_code(cells[0])[0]: cells[1:] for cells in rows}


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


_KEYS = {key: cells for key, cells in _rows("Keys").items() if not key.startswith(parameters.KUBERNETES_PREFIX)}
_ALLOWED = {key: _code(cells[1]) for key, cells in _KEYS.items()}
_DEFAULT = {key: cells[2] for key, cells in _KEYS.items()}


def _parsed(**given: str) -> ClassParameters:
    return parse_class({**_REQUIRED, **given})


def _is_refused(given: Mapping[str, str]) -> bool:
    try:
        parse_class(given)
    except InvalidRequest:
        return True
    return False


def test_every_key_of_the_parser_is_on_the_page_and_no_other() -> None:
    assert set(_KEYS) == set(parameters.CLASS_KEYS)


def test_the_refused_keys_are_those_of_the_parser() -> None:
    assert set(_rows("Keys that are refused for now")) == set(parameters.NOT_YET)


def test_the_metadata_keys_are_those_of_the_parser() -> None:
    kubernetes = {key for key in _rows("Keys") if key.startswith(parameters.KUBERNETES_PREFIX)}
    assert kubernetes == set(KUBERNETES_METADATA)


def test_required_on_the_page_is_what_cannot_be_left_out() -> None:
    required = {key for key, default in _DEFAULT.items() if default == "required"}
    assert required == set(_REQUIRED)
    assert all(_is_refused(dict.fromkeys(required - {key}, "x")) for key in required)


@pytest.mark.parametrize("key", ["imageFeatures", "objectSize", "volumeNamePrefix", "tryOtherMounters"])
def test_a_default_given_by_hand_changes_nothing(key: str) -> None:
    (value,) = _code(_DEFAULT[key])
    given, left_out = _parsed(**{key: value}), _parsed()
    assert (given.layout, given.image_prefix) == (left_out.layout, left_out.image_prefix)


def test_the_features_on_the_page_are_all_there_are() -> None:
    assert set(_ALLOWED["imageFeatures"]) == set(parameters.FEATURES)
    assert not _is_refused({**_REQUIRED, "imageFeatures": ",".join(_ALLOWED["imageFeatures"])})
    for line, needed in (
        ("object-map", "exclusive-lock"),
        ("journaling", "exclusive-lock"),
        ("fast-diff", "object-map"),
    ):
        assert f"`{line}`" in _KEYS["imageFeatures"][0]
        assert _is_refused({**_REQUIRED, "imageFeatures": line})
        assert f"`{needed}`" in _KEYS["imageFeatures"][0]


def test_the_mounters_on_the_page_are_all_there_are() -> None:
    assert set(_ALLOWED["mounter"]) == set(parameters.MOUNTERS)


def test_the_forms_of_encryption_on_the_page_are_all_there_are() -> None:
    assert tuple(_ALLOWED["encryptionCipher"]) == CIPHERS
    assert tuple(_ALLOWED["encryptionSectorSize"]) == SECTOR_SIZES


def test_only_true_and_false_are_allowed_for_a_switch() -> None:
    assert _ALLOWED["tryOtherMounters"] == ["true", "false"]
    assert not any(_is_refused({**_REQUIRED, "tryOtherMounters": value}) for value in ("true", "false"))
    assert _is_refused({**_REQUIRED, "tryOtherMounters": "yes"})


def test_the_bounds_of_the_object_size_are_those_of_the_page() -> None:
    low, high = (int(value) for value in _ALLOWED["objectSize"])
    assert not any(_is_refused({**_REQUIRED, "objectSize": str(value)}) for value in (low, high))
    assert all(_is_refused({**_REQUIRED, "objectSize": str(value)}) for value in (low // 2, low + 1, high * 2))


def test_the_bounds_of_the_stripe_count_are_those_of_the_page() -> None:
    low, high = (int(value) for value in _ALLOWED["stripeCount"])
    striped = {**_REQUIRED, "stripeUnit": "65536"}
    assert not any(_is_refused({**striped, "stripeCount": str(value)}) for value in (low, high))
    assert all(_is_refused({**striped, "stripeCount": str(value)}) for value in (low - 1, high + 1))


def test_the_longest_prefix_is_that_of_the_page() -> None:
    (longest,) = re.findall(r"at most (\d+)", _KEYS["volumeNamePrefix"][1])
    assert not _is_refused({**_REQUIRED, "volumeNamePrefix": "p" * int(longest)})
    assert _is_refused({**_REQUIRED, "volumeNamePrefix": "p" * (int(longest) + 1)})


def test_mkfs_gets_the_options_of_the_page() -> None:
    ext4, xfs = _code(_DEFAULT["mkfsOptions"])
    assert {"ext4": tuple(ext4.split()), "xfs": tuple(xfs.split())} == filesystems._FORMAT_DEFAULTS


def test_the_volume_context_has_only_keys_of_the_page() -> None:
    on_page = {key for line in _section("The volume context").splitlines() for key in _code(line.split(" | ")[0])}
    every = {**_REQUIRED, "dataPool": "d", "imageFeatures": "layering", "mounter": "fuse", "tryOtherMounters": "true"}
    every |= {"mapOptions": "x", "unmapOptions": "x", "mkfsOptions": "x", "encrypted": "true", "encryptionKMSID": "x"}
    every |= {"encryptionType": "block", "encryptionCipher": CIPHERS[0], "encryptionSectorSize": SECTOR_SIZES[0]}
    assert set(parse_class(every).context) <= on_page


def test_the_depths_of_the_page_are_those_of_the_parser() -> None:
    page = FlattenPolicy(FlattenMode(_DEFAULT["flatten"].strip("`")), 4, int(_DEFAULT["hardCloneDepth"].strip("`")))
    assert parameters.parse_class(_REQUIRED).flatten == page == FlattenPolicy()
    assert set(_ALLOWED["flatten"]) == set(FlattenMode)
    low, high = (int(value) for value in _ALLOWED["hardCloneDepth"])
    assert not any(_is_refused({**_REQUIRED, "hardCloneDepth": str(depth)}) for depth in (low, high))
    assert all(_is_refused({**_REQUIRED, "hardCloneDepth": str(depth)}) for depth in (low - 1, high + 1))
    assert _is_refused({**_REQUIRED, "softCloneDepth": "5", "hardCloneDepth": "4"})


def test_the_retentions_of_the_page_are_those_of_the_parser() -> None:
    none, *units_and_examples, longest = _ALLOWED["trashRetention"]
    assert _DEFAULT["trashRetention"] == f"`{none}`"
    assert _parsed(trashRetention=none) == _parsed()
    units, examples = units_and_examples[:4], units_and_examples[4:]
    assert [_parsed(trashRetention=f"1{unit}").retention_s for unit in units] == [1, 60, 3600, 86400]
    assert not any(_is_refused({**_REQUIRED, "trashRetention": value}) for value in (*examples, longest))
    assert _is_refused({**_REQUIRED, "trashRetention": f"{int(longest[:-1]) + 1}{longest[-1]}"})


def test_the_clone_formats_of_the_page_are_those_of_the_parser() -> None:
    assert set(_ALLOWED["cloneFormat"]) == set(CloneFormat) - {_parsed().clone_format}
    assert [_parsed(cloneFormat=text).clone_format.value for text in _ALLOWED["cloneFormat"]] == _ALLOWED["cloneFormat"]
    assert _is_refused({**_REQUIRED, "cloneFormat": "3"})


_MUTABLE = {
    key: _code(cells[-1])
    for line in _section("Parameters that can be changed").splitlines()
    if line.startswith("| `")
    for cells in (line.strip("| ").split(" | "),)
    for key in _code(cells[0])
}


def test_the_keys_of_a_group_snapshot_class_are_those_of_the_parser() -> None:
    assert set(_rows("A VolumeGroupSnapshotClass")) == set(parameters.GROUP_KEYS)


def test_the_mutable_keys_are_those_of_the_parser() -> None:
    assert set(_MUTABLE) == set(mutable_parameters.KEYS)


@pytest.mark.parametrize("key", mutable.LIMIT_KEYS)
def test_the_bounds_of_the_limits_are_those_of_the_page(key: str) -> None:
    low, high = (int(value) for value in _MUTABLE[key])
    assert [parse_mutable({key: str(value)}) for value in (low, high)] == [{key: low}, {key: high}]
    for beyond in (low - 1, high + 1):
        with pytest.raises(InvalidRequest, match=f"{key}.*{beyond}.*{low} to {high}"):
            parse_mutable({key: str(beyond)})
