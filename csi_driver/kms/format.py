"""The text of a wrapped data key, without any cryptography: JSON, {"dek", "nonce"}, both in base64, as Go marshals it."""

import base64
import json

NONCE_BYTES = 12


class NotAWrappedKey(Exception):
    """The text does not have the format; the message says in what."""


def render(sealed: bytes, nonce: bytes) -> str:
    values = {"dek": base64.b64encode(sealed).decode(), "nonce": base64.b64encode(nonce).decode()}
    return json.dumps(values, separators=(",", ":"))


def parse(kept: str) -> tuple[bytes, bytes]:
    """The sealed key and its nonce. Raises NotAWrappedKey."""
    try:
        values = json.loads(kept)
        sealed, nonce = (base64.b64decode(values[name], validate=True) for name in ("dek", "nonce"))
    except (ValueError, TypeError, KeyError) as odd:
        raise NotAWrappedKey('it is not JSON with "dek" and "nonce" in base64') from odd
    if len(nonce) != NONCE_BYTES:
        raise NotAWrappedKey(f"its nonce has {len(nonce)} bytes, not {NONCE_BYTES}")
    return sealed, nonce
