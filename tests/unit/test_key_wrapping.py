"""Data keys wrapped in the Go driver's format, held against what Go's own cryptography makes of the same input."""

import base64
import json
import re

import pytest

from csi_driver.kms.format import NotAWrappedKey
from csi_driver.kms.wrapping import WrongPassphrase, new_data_key, unwrap, wrap
from tests.wrapped_keys import unwrapped, wrapped

HANDLE = "0001-0009-rook-ceph-0000000000000002-50d53503-9da1-11ed-847e-bacf8f2f1297"
PHRASE = "correct horse battery staple"
KEY = "AAECAwQFBgcICQoLDA0ODxAREhM="

BY_GO = '{"dek":"Nq2bt+1gW8XDC0m4vpqHcfzs1s/CU/qQbVul2Rxn2+EQuD6yuPDjJuG8jNQ=","nonce":"AAECAwQFBgcICQoL"}'
"""Of golang.org/x/crypto/scrypt and crypto/cipher (Go 1.26), with the nonce 00 01 … 0b; marshalled by encoding/json."""


def test_a_key_that_go_has_wrapped_is_unwrapped() -> None:
    assert unwrap(BY_GO, PHRASE, HANDLE) == KEY


def test_the_test_suites_own_implementation_of_the_format_agrees_with_go() -> None:
    assert unwrapped(BY_GO, PHRASE, HANDLE) == KEY
    assert json.loads(wrapped(KEY, PHRASE, HANDLE, bytes(range(12)))) == json.loads(BY_GO)


def test_a_wrapped_key_has_gos_form_and_is_another_text_each_time() -> None:
    one, other = wrap(KEY, PHRASE, HANDLE), wrap(KEY, PHRASE, HANDLE)
    assert one != other
    for text in (one, other):
        assert re.fullmatch(r'\{"dek":"[A-Za-z0-9+/]{59}=","nonce":"[A-Za-z0-9+/]{16}"\}', text)
        assert unwrapped(text, PHRASE, HANDLE) == KEY


def test_new_data_keys_are_twenty_random_bytes_in_the_url_safe_alphabet() -> None:
    keys = {new_data_key() for _ in range(50)}
    assert len(keys) == 50
    assert all(len(base64.urlsafe_b64decode(key)) == 20 and len(key) == 28 for key in keys)


@pytest.mark.parametrize(("phrase", "handle"), [(PHRASE + " ", HANDLE), (PHRASE, HANDLE[:-1] + "8"), ("", HANDLE)])
def test_another_passphrase_or_another_volumes_handle_does_not_unwrap(phrase: str, handle: str) -> None:
    with pytest.raises(WrongPassphrase):
        unwrap(BY_GO, phrase, handle)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "null",
        '{"dek":"AAAA"}',
        '{"dek":1,"nonce":"AAECAwQFBgcICQoL"}',
        '{"dek":"?","nonce":"AAECAwQFBgcICQoL"}',
        BY_GO.replace("AAECAwQFBgcICQoL", "AAEC"),
    ],
)
def test_a_text_that_is_no_wrapped_key_is_told_from_a_wrong_passphrase(text: str) -> None:
    with pytest.raises(NotAWrappedKey):
        unwrap(text, PHRASE, HANDLE)


def test_a_changed_text_does_not_unwrap() -> None:
    with pytest.raises(WrongPassphrase):
        unwrap(BY_GO.replace("Nq2b", "Nq2c"), PHRASE, HANDLE)
