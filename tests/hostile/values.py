"""What stands in a hostile field."""

from pathlib import Path

from hypothesis import strategies as st

TEXTS = (
    *("", " ", "a", "0", "-1", "1e9", "0x10", "9" * 30, "NaN", "true", "null", "None", "[]", "{}", "\\", '"', "'"),
    *("x" * 127, "x" * 128, "x" * 129, "x" * 300, "x" * 5000, "ä" * 64, "ä" * 65, "😀", "\u202e", "\ufeff", "\ud7ff"),
    *("\0", "a\0b", "\x1b[31m", "\x7f", "\n", "a\nb", "../../etc/passwd", "/", "//", "a/b", "a@b", "@", ":", "%s%n"),
    *("$(id)", "`id`", "'; --", "-rf", "--help", "csi.volume.", "csi-vol-", "rbd", "dev", "second", "admin"),
    *("0001-0003-dev-0000000000000002-", "0001-ffff-dev-0000000000000002-00000000-0000-0000-0000-000000000000"),
    *("0001-0003-dev-7fffffffffffffff-00000000-0000-4000-8000-000000000000", "0001-0003-dev--1-x", "0002-0003-dev-"),
    "0001-0003-dev-0000000000000002-00000000-0000-4000-8000-000000000000",
)
KEYS = (
    *("clusterID", "pool", "dataPool", "imageFeatures", "volumeNamePrefix", "snapshotNamePrefix", "objectSize"),
    *("stripeUnit", "stripeCount", "flatten", "softCloneDepth", "hardCloneDepth", "cloneFormat", "maxIops", "maxBps"),
    *("csi.storage.k8s.io/pvc/name", "csi.storage.k8s.io/fstype", "topologyConstrainedPools", "userID", "userKey"),
    *("imageName", "pool ", "Pool", "", "x" * 300, "a\0b", "mounter", "tryOtherMounters", "encrypted"),
)
INTEGERS = (
    0,
    1,
    -1,
    5,
    1023,
    1024,
    1 << 20,
    (1 << 20) + 1,
    1 << 30,
    1 << 31,
    (1 << 31) - 1,
    (1 << 62) + 3,
    (1 << 63) - 1,
)

texts = st.sampled_from(TEXTS) | st.text(max_size=12)
keys = st.sampled_from(KEYS) | texts
integers = st.sampled_from((*INTEGERS, *(-number for number in INTEGERS), -(1 << 63)))


def paths(below: Path) -> st.SearchStrategy[str]:
    """Below a directory of the test's own, or no absolute path at all: what is right may be carried out."""
    inside = [
        str(below / name) for name in ("staging", "target", "absent/target", "link/target", "file", "ä", "x" * 300)
    ]
    odd = [
        f"{below}/../{below.name}/target",
        f"{below}//target",
        f"{below}/./target",
        f"{below}/target/",
        f"{below}/a\0b",
    ]
    return st.sampled_from(
        (*inside, *odd, "", ".", "..", "target", "../target", "~", "\0", "x" * 5000, f"{below}/{'x/' * 600}y")
    )
