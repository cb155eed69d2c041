"""The record of a process's addresses."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi_driver.journal.makers import Record

addresses = st.lists(st.integers(0, 40).map(lambda number: f"10.0.0.1:0/{number}"), min_size=1, max_size=60)


def history(addresses: list[str]) -> Record:
    record = Record(addresses[0], making={addresses[0]: second_of(addresses[0])})
    for before, address in pairwise(addresses):
        if address != before:
            record = record.succeeded_by(address, second_of(address))
    return record


def second_of(address: str) -> str:
    return f"{address}-making"


@given(addresses)
def test_a_record_keeps_the_last_addresses_once_each_and_no_more_than_sixteen(addresses: list[str]) -> None:
    record = history(addresses)
    assert record.address == addresses[-1]
    assert len(record.former) <= 16
    assert len(set(record.former)) == len(record.former)
    assert record.address not in record.former
    newest_first = list(dict.fromkeys(reversed(addresses)))[1:]
    assert list(reversed(record.former)) == newest_first[:16]


@given(addresses)
def test_each_address_is_kept_with_the_one_that_images_were_made_from(addresses: list[str]) -> None:
    record = history(addresses)
    for address in (record.address, *record.former):
        assert record.all_of(address) == (address, second_of(address))
    assert set(record.making) == {record.address, *record.former}
    assert record.addresses == {*record.making, *record.making.values()}


def test_a_record_of_a_driver_that_made_images_from_its_one_address_is_read() -> None:
    record = Record.parse('{"address": "b", "former": ["a"]}')
    assert record == Record("b", ("a",))
    assert record.all_of("a") == ("a",)
    assert record.succeeded_by("c", "c2").addresses == {"a", "b", "c", "c2"}


@given(addresses)
def test_a_record_reads_back_as_it_was_written(addresses: list[str]) -> None:
    record = history(addresses)
    assert Record.parse(str(record)) == record
    assert str(record).isascii(), "it is compared in Ceph"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"address": "a"}', "no JSON"])
def test_what_is_no_record_is_not_taken_for_one(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Record.parse(text)
