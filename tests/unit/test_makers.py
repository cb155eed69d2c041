"""The record of a process's addresses."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi_driver.journal.makers import Record

addresses = st.lists(st.integers(0, 40).map(lambda number: f"10.0.0.1:0/{number}"), min_size=1, max_size=60)


def history(addresses: list[str]) -> Record:
    record = Record(addresses[0])
    for before, address in pairwise(addresses):
        if address != before:
            record = record.succeeded_by(address)
    return record


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
def test_a_record_reads_back_as_it_was_written(addresses: list[str]) -> None:
    record = history(addresses)
    assert Record.parse(str(record)) == record
    assert str(record).isascii(), "it is compared in Ceph"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"address": "a"}', "no JSON"])
def test_what_is_no_record_is_not_taken_for_one(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Record.parse(text)
