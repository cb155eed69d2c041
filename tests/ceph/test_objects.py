"""Objects with keys: the contract of `Objects` in csi_driver/ceph/api."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csi_driver.ceph.api import CompareFailed, Create, ObjectExists, ObjectMissing, Objects, Pool, Write

KEYS = {"a": "1", "b": "", "größe": "ü–x"}


@pytest.fixture
def objects(pool: Pool) -> Objects:
    return pool.objects


def put(objects: Objects, name: str, keys: Mapping[str, str]) -> None:
    objects.apply(name, Write(create=Create.ENSURE, put=keys))


def test_keys_and_values_read_back_as_they_were_written(objects: Objects, name: str) -> None:
    """Any text, empty values among it."""
    put(objects, name, KEYS)
    assert objects.read(name) == KEYS
    assert {key: objects.read_key(name, key) for key in KEYS} == KEYS


def test_an_object_that_is_not_there_is_none_and_one_without_keys_is_empty(objects: Objects, name: str) -> None:
    assert objects.read(name) is None
    assert objects.read_key(name, "a") is None
    assert objects.list_page(name, prefix="", after="", limit=10) == []
    objects.apply(name, Write(create=Create.EXCLUSIVE))
    assert objects.read(name) == {}
    assert objects.read_key(name, "a") is None


def test_two_objects_are_read_at_once_as_one_after_the_other(objects: Objects, name: str) -> None:
    put(objects, name, KEYS)
    for key in (*KEYS, "missing"):
        assert objects.read_both(name, key, name) == (objects.read_key(name, key), KEYS)
    assert objects.read_both(name, "a", f"{name}-missing") == (objects.read_key(name, "a"), None)
    assert objects.read_both(f"{name}-missing", "a", name) == (None, KEYS)
    assert objects.read_both(f"{name}-missing", "a", f"{name}-missing") == (None, None)


def test_an_exclusive_create_happens_once(objects: Objects, name: str) -> None:
    objects.apply(name, Write(create=Create.EXCLUSIVE, put={"a": "first"}))
    with pytest.raises(ObjectExists):
        objects.apply(name, Write(create=Create.EXCLUSIVE, put={"a": "second", "b": "second"}))
    assert objects.read(name) == {"a": "first"}


def test_ensuring_an_object_leaves_its_keys(objects: Objects, name: str) -> None:
    put(objects, name, KEYS)
    objects.apply(name, Write(create=Create.ENSURE))
    assert objects.read(name) == KEYS


@pytest.mark.parametrize(
    "write",
    [
        Write(compare={"a": ""}),
        Write(compare={"a": "1"}, put={"a": "2"}),
        Write(drop=("a",)),
        Write(remove_object=True),
    ],
    ids=str,
)
def test_what_changes_an_object_does_not_make_it(objects: Objects, name: str, write: Write) -> None:
    with pytest.raises(ObjectMissing):
        objects.apply(name, write)
    assert objects.read(name) is None


@pytest.mark.parametrize(
    "compare",
    [
        {"a": "1"},
        {"a": "1", "b": ""},
        {"b": ""},
        {"none": ""},
        {"größe": "", "a": "1"},
        {"größe–x": ""},
    ],
    ids=str,
)
def test_a_write_whose_compares_hold_happens(objects: Objects, name: str, compare: Mapping[str, str]) -> None:
    """An empty value and a missing key are the same to it."""
    put(objects, name, {"a": "1", "b": ""})
    objects.apply(name, Write(compare=compare, put={"a": "2", "c": "3"}, drop=("b",)))
    assert objects.read(name) == {"a": "2", "c": "3"}


@pytest.mark.parametrize("create", [Create.NO, Create.ENSURE])
@pytest.mark.parametrize(
    "compare",
    [
        {"a": ""},
        {"a": "2"},
        {"a": "1 "},
        {"a": "10"},
        {"none": "1"},
        {"b": "1"},
        {"a": "1", "none": "x"},
        {"none": "x", "a": "1"},
        {"größe": ""},
    ],
    ids=str,
)
def test_of_a_write_with_one_compare_that_fails_nothing_happens(
    objects: Objects, name: str, compare: Mapping[str, str], create: Create
) -> None:
    before = {"a": "1", "b": "", "größe": "x"}
    put(objects, name, before)
    for write in (
        Write(create, compare, put={"a": "9", "new": "9"}, drop=("b",)),
        Write(create, compare, remove_object=True),
    ):
        with pytest.raises(CompareFailed):
            objects.apply(name, write)
        assert objects.read(name) == before


def test_a_failed_compare_takes_the_creation_back_too(objects: Objects, name: str) -> None:
    with pytest.raises(CompareFailed):
        objects.apply(name, Write(create=Create.ENSURE, compare={"a": "1"}, put={"b": "2"}))
    assert objects.read(name) is None


def test_a_removed_object_is_gone_with_its_keys(objects: Objects, name: str) -> None:
    put(objects, name, KEYS)
    objects.apply(name, Write(compare={"a": "1"}, remove_object=True))
    assert objects.read(name) is None
    objects.apply(name, Write(create=Create.EXCLUSIVE))
    assert objects.read(name) == {}


def test_dropping_a_key_that_is_not_there_is_fine(objects: Objects, name: str) -> None:
    put(objects, name, {"a": "1"})
    objects.apply(name, Write(drop=("none", "a")))
    assert objects.read(name) == {}


def test_of_many_who_claim_a_key_one_gets_it(objects: Objects, name: str) -> None:
    """The others learn that they lost, and nothing of theirs stands there."""
    objects.apply(name, Write(create=Create.ENSURE))

    def claim(number: int) -> bool:
        try:
            objects.apply(name, Write(compare={"owner": ""}, put={"owner": str(number), f"mark {number}": ""}))
        except CompareFailed:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(claim, range(48)))
    assert won.count(True) == 1
    winner = won.index(True)
    assert objects.read(name) == {"owner": str(winner), f"mark {winner}": ""}


def test_counting_by_compare_loses_nothing(objects: Objects, name: str) -> None:
    put(objects, name, {"count": "0"})

    def add_one(_: int) -> None:
        while True:
            present = objects.read_key(name, "count") or ""
            try:
                objects.apply(name, Write(compare={"count": present}, put={"count": str(int(present) + 1)}))
            except CompareFailed:
                continue
            return

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add_one, range(64)))
    assert objects.read_key(name, "count") == "64"


# ── many keys ──


MANY = {f"{prefix}{number:05}": str(number) for prefix in ("deleted.", "csi.volume.") for number in range(1300)}


@pytest.fixture
def crowded(objects: Objects, name: str) -> str:
    """An object with more keys than an OSD returns at once, 1,024."""
    items = list(MANY.items())
    for start in range(0, len(items), 500):
        put(objects, name, dict(items[start : start + 500]))
    return name


def test_an_object_of_many_keys_is_read_whole(objects: Objects, crowded: str) -> None:
    assert objects.read(crowded) == MANY
    assert objects.read_both(crowded, "missing", crowded) == (None, MANY)


@pytest.mark.parametrize("prefix", ["deleted.", "csi.", "", "none"])
def test_pages_give_each_key_of_the_prefix_once_and_in_order(objects: Objects, crowded: str, prefix: str) -> None:
    found: list[tuple[str, str]] = []
    while page := objects.list_page(crowded, prefix=prefix, after=found[-1][0] if found else "", limit=400):
        assert len(page) <= 400
        found += page
    assert found == sorted(item for item in MANY.items() if item[0].startswith(prefix))


@pytest.mark.parametrize(
    ("prefix", "after", "limit", "keys"),
    [
        ("", "", 2, ["a", "b"]),
        ("", "a", 2, ["b", "b.1"]),
        ("", "a1", 9, ["b", "b.1", "b.2", "c", "é"]),
        ("b", "", 9, ["b", "b.1", "b.2"]),
        ("b.", "b", 1, ["b.1"]),
        ("b.", "b.1", 9, ["b.2"]),
        ("b.", "b.2", 9, []),
        ("b.", "z", 9, []),
        ("é", "", 9, ["é"]),
    ],
)
def test_a_page_begins_after_a_key_whether_it_is_there_or_not(
    objects: Objects, name: str, *, prefix: str, after: str, limit: int, keys: list[str]
) -> None:
    put(objects, name, dict.fromkeys(["é", "c", "b.2", "b", "b.1", "a"], "v"))
    page = objects.list_page(name, prefix=prefix, after=after, limit=limit)
    assert page == [(key, "v") for key in keys]


# ── any sequence of writes ──


key_names = st.sampled_from(["a", "b", "csi.volume.größe"])
plain = st.sampled_from(["", "1", "10", "x" * 300])
writes = st.builds(
    Write,
    create=st.sampled_from(Create),
    compare=st.dictionaries(key_names, plain, max_size=2),
    put=st.dictionaries(key_names, plain | st.just("ü"), max_size=3),
    drop=st.lists(key_names, max_size=1).map(tuple),
)
removals = st.builds(
    Write,
    compare=st.dictionaries(key_names, plain, max_size=1),
    remove_object=st.just(True),
)


def after_write(keys: dict[str, str] | None, write: Write) -> dict[str, str] | type[Exception] | None:
    """What the contract says an object is after a write: its keys, None for no object, or the error."""
    if write.create is Create.EXCLUSIVE and keys is not None:
        return ObjectExists
    if write.create is not Create.NO:
        keys = keys or {}
    if keys is None and (write.compare or not write.put):
        return ObjectMissing if write.compare or write.drop or write.remove_object else None
    present = keys or {}
    if any(present.get(key, "") != expected for key, expected in write.compare.items()):
        return CompareFailed
    if write.remove_object:
        return None
    return {key: value for key, value in {**present, **write.put}.items() if key not in write.drop}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(writes | removals, max_size=12))
def test_any_sequence_of_writes_comes_to_what_the_contract_says(pool: Pool, sequence: list[Write]) -> None:
    objects, name = pool.objects, "contract.sequence"
    if objects.read(name) is not None:
        objects.apply(name, Write(remove_object=True))
    keys: dict[str, str] | None = None
    for write in sequence:
        outcome = after_write(keys, write)
        if isinstance(outcome, type):
            with pytest.raises(outcome):
                objects.apply(name, write)
        else:
            objects.apply(name, write)
            keys = outcome
        assert objects.read(name) == keys
    if keys is not None:
        objects.apply(name, Write(remove_object=True))


def test_a_lease_is_seen_by_others_while_it_lasts(pool: Pool, name: str) -> None:
    assert not pool.leases.is_leased(name)
    assert pool.leases.take_lease(name, 60)
    assert pool.leases.is_leased(name)
    pool.leases.end_lease(name)
    assert not pool.leases.is_leased(name)
