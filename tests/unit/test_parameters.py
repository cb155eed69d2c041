"""Parameters of a StorageClass: every key, good and bad."""

import re

import pytest

from csi_driver.errors import InvalidRequest
from csi_driver.model import ImageLayout
from csi_driver.rpc.parameters import (
    DEFAULT_FEATURES,
    FEATURES,
    IMAGE_KEYS,
    KUBERNETES_PREFIX,
    MOUNTERS,
    NODE_KEYS,
    NOT_YET,
    parse_class,
)

LEAST = {"clusterID": "c", "pool": "p"}
MIB = 1 << 20


def test_two_parameters_are_enough() -> None:
    parsed = parse_class(LEAST)
    assert (parsed.cluster_id, parsed.pool, parsed.image_prefix) == ("c", "p", "csi-vol-")
    assert parsed.layout == ImageLayout(DEFAULT_FEATURES)
    assert parsed.context == {"clusterID": "c"}
    assert parsed.metadata == {}


@pytest.mark.parametrize(
    ("given", "layout"),
    [
        ({"imageFeatures": "layering"}, ImageLayout(("layering",))),
        (
            {"imageFeatures": " layering , exclusive-lock,layering"},
            ImageLayout(("layering", "exclusive-lock")),
        ),
        ({"imageFeatures": ",".join(FEATURES)}, ImageLayout(FEATURES)),
        ({"imageFeatures": ""}, ImageLayout(DEFAULT_FEATURES)),
        ({"objectSize": "4096"}, ImageLayout(DEFAULT_FEATURES, 4096)),
        ({"objectSize": str(32 * MIB)}, ImageLayout(DEFAULT_FEATURES, 32 * MIB)),
        ({"dataPool": "größe"}, ImageLayout(DEFAULT_FEATURES, data_pool="größe")),
        ({"stripeUnit": "65536", "stripeCount": "16"}, ImageLayout(DEFAULT_FEATURES, 4 * MIB, 65536, 16)),
        ({"stripeUnit": "65536", "stripeCount": "4096"}, ImageLayout(DEFAULT_FEATURES, 4 * MIB, 65536, 4096)),
        (
            {"objectSize": str(MIB), "stripeUnit": str(MIB), "stripeCount": "1"},
            ImageLayout(DEFAULT_FEATURES, MIB, MIB, 1),
        ),
        ({"stripeUnit": "", "stripeCount": ""}, ImageLayout(DEFAULT_FEATURES)),
    ],
    ids=str,
)
def test_the_layout_is_what_the_class_says(given: dict[str, str], layout: ImageLayout) -> None:
    assert parse_class({**LEAST, **given}).layout == layout


@pytest.mark.parametrize("prefix", ["a", "shop-", "9.A_b-", "x" * 64])
def test_the_prefix_of_image_names_is_taken(prefix: str) -> None:
    assert parse_class({**LEAST, "volumeNamePrefix": prefix}).image_prefix == prefix


@pytest.mark.parametrize("mounter", MOUNTERS)
def test_the_node_gets_the_keys_that_are_its_own(mounter: str) -> None:
    """In the volume's context, unchanged; keys without a value do not go there."""
    node = {
        "mounter": mounter,
        "mapOptions": "krbd:rw;nbd:io-timeout=330",
        "unmapOptions": "force",
        "mkfsOptions": "-m1 -E x=y",
        "tryOtherMounters": "true",
        "encrypted": "true",
        "encryptionKMSID": "default",
        "encryptionType": "block",
        "encryptionCipher": "serpent-xts-plain64",
        "encryptionSectorSize": "4096",
    }
    assert set(node) == set(NODE_KEYS)
    kept = {"dataPool": "d", "imageFeatures": "layering"}
    parsed = parse_class({**LEAST, **node, **kept, "volumeNamePrefix": "a", "objectSize": "4096"})
    assert parsed.context == {"clusterID": "c", **kept, **node}
    assert parse_class({**LEAST, **dict.fromkeys(NODE_KEYS, "")}).context == {"clusterID": "c"}


def test_what_kubernetes_tells_becomes_metadata_and_other_keys_of_its_own_are_ignored() -> None:
    told = {f"{KUBERNETES_PREFIX}{key}": value for key, value in (("pvc/name", "db"), ("pvc/namespace", "größe"))}
    secret = {f"{KUBERNETES_PREFIX}provisioner-secret-name": "s", f"{KUBERNETES_PREFIX}fstype": "ext4"}
    parsed = parse_class({**LEAST, **told, **secret})
    assert parsed.metadata == told
    assert parsed.context == {"clusterID": "c"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("clusterID", ""),
        ("clusterID", "x" * 129),
        ("clusterID", "a\nb"),
        ("pool", ""),
        ("pool", "a\x7fb"),
        ("dataPool", "x" * 129),
        ("dataPool", "a\tb"),
        ("imageFeatures", "layerings"),
        ("imageFeatures", "layering,"),
        ("imageFeatures", "layering exclusive-lock"),
        ("imageFeatures", "Layering"),
        ("imageFeatures", "61"),
        ("objectSize", "4M"),
        ("objectSize", "-4096"),
        ("objectSize", "4096.0"),
        ("objectSize", " 4096"),
        ("objectSize", "٤٠٩٦"),
        ("objectSize", "2048"),
        ("objectSize", str(64 * MIB)),
        ("objectSize", "4097"),
        ("objectSize", "9" * 19),
        ("objectSize", "9" * 5000),
        ("stripeUnit", "4096"),
        ("stripeCount", "4"),
        ("volumeNamePrefix", ""),
        ("volumeNamePrefix", "x" * 65),
        ("volumeNamePrefix", "-a"),
        ("volumeNamePrefix", "a/b"),
        ("volumeNamePrefix", "a@b"),
        ("volumeNamePrefix", "größe"),
        ("volumeNamePrefix", "a\n"),
        ("mounter", "iscsi"),
        ("mounter", "RBD"),
        ("tryOtherMounters", "yes"),
        ("tryOtherMounters", "True"),
        ("encryptionCipher", "aes-ecb"),
        ("encryptionCipher", "AES-XTS-plain64"),
        ("encryptionSectorSize", "8192"),
        ("encryptionSectorSize", "4k"),
    ],
)
def test_a_bad_value_is_refused_by_its_key(key: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=key):
        parse_class({**LEAST, key: value})


@pytest.mark.parametrize(
    ("unit", "count", "said"),
    [
        ("0", "4", "stripeUnit"),
        ("4096", "0", "stripeCount"),
        ("3", "2", "stripeUnit is 3"),
        (str(8 * MIB), "2", "stripeUnit is 8388608"),
        ("65536", "4097", "stripeCount is 4097"),
        ("65536", str(1 << 32), "stripeCount is 4294967296"),
    ],
)
def test_stripes_that_no_image_can_have_are_refused(unit: str, count: str, said: str) -> None:
    """Among them a count that ends librbd, and the process with it, when the image is removed."""
    with pytest.raises(InvalidRequest, match=said):
        parse_class({**LEAST, "stripeUnit": unit, "stripeCount": count})


@pytest.mark.parametrize(
    ("feature", "needed"),
    [("object-map", "exclusive-lock"), ("fast-diff", "object-map"), ("journaling", "exclusive-lock")],
)
def test_a_feature_needs_the_one_that_it_stands_on(feature: str, needed: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{feature} needs {needed}"):
        parse_class({**LEAST, "imageFeatures": f"layering,{feature}"})
    assert feature in parse_class({**LEAST, "imageFeatures": ",".join(FEATURES)}).layout.features


@pytest.mark.parametrize("key", ["Pool", "clusterId", "imagefeatures", "csi.storage.k8s.io", "", "größe", "pool "])
def test_an_unknown_key_is_refused_with_the_keys_that_are_known(key: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(repr(key))) as refused:
        parse_class({**LEAST, key: "x"})
    assert all(known in str(refused.value) for known in (*IMAGE_KEYS, *NODE_KEYS))


@pytest.mark.parametrize("key", NOT_YET)
def test_a_key_that_would_make_another_kind_of_volume_is_refused_even_when_empty(key: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'{key}' is not supported"):
        parse_class({**LEAST, key: ""})


@pytest.mark.parametrize(
    ("given", "seconds"), [("", 0), ("0", 0), ("0s", 0), ("90s", 90), ("30m", 1800), ("24h", 86400), ("7d", 604800)]
)
def test_a_retention_is_a_number_with_a_unit(given: str, seconds: int) -> None:
    assert parse_class({**LEAST, "trashRetention": given}).retention_s == seconds


@pytest.mark.parametrize("given", ["1", "-1h", "1.5h", "1h30m", "1w", "1H", " 1h", "h", "366d", "9000h", "1h\n", "٣d"])
def test_another_retention_is_refused_with_what_is_allowed(given: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_class({**LEAST, "trashRetention": given})
    assert f"trashRetention is {given!r}; allowed are" in str(refused.value)
    assert "365d" in str(refused.value)
