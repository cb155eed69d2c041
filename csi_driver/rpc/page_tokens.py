"""Tokens of listings: a place in the journal's walk as text, at most 128 bytes (CSI spec, Size Limits).

Base64 of: kind (u8), cluster (6 bytes of a digest of its id), pool id (u64), then a key (kind 1) or, where that does not fit,
the entry that it names: its pool's id (u64) and its uuid (kind 2); last a CRC of all that. To clients it is opaque.
"""

import base64
import struct
import zlib
from collections.abc import Iterable
from hashlib import blake2b

from csi_driver.errors import BadPageToken
from csi_driver.operations.listing import Last, Position

MAX_BYTES = 128
_HEAD = struct.Struct(">B6sQ")
_POOL = struct.Struct(">Q")
_CRC = struct.Struct(">I")
_BY_KEY, _BY_ENTRY = 1, 2


def token_of(last: Last | None) -> str:
    """Empty at the end of a listing."""
    if last is None:
        return ""
    text = _text(last.by_key)
    return text if len(text) <= MAX_BYTES else _text(last.by_entry)


def parse_token(text: str, cluster_ids: Iterable[str]) -> Position | None:
    """None without a token. Raises BadPageToken."""
    if not text:
        return None
    try:
        body = _unsealed(text)
        kind, digest, pool_id = _HEAD.unpack_from(body)
        rest = body[_HEAD.size :]
        (cluster_id,) = (one for one in cluster_ids if _digest(one) == digest)  # ValueError when it is not configured
        if kind == _BY_KEY:
            return Position(cluster_id, pool_id, rest.decode())
        (entry_pool_id,) = _POOL.unpack_from(rest)
        uuid = rest[_POOL.size :].decode()
        return Position(cluster_id, pool_id, uuid, is_entry=True, entry_pool_id=entry_pool_id)
    except (ValueError, struct.error) as odd:
        raise BadPageToken(
            f"starting_token {text[:MAX_BYTES]!r} is none that this driver gave: begin the listing again without one"
        ) from odd


def _unsealed(text: str) -> bytes:
    """Raises ValueError, struct.error."""
    raw = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text.encode()) % 4))
    body, (crc,) = raw[: -_CRC.size], _CRC.unpack(raw[-_CRC.size :])
    if crc != zlib.crc32(body):
        raise ValueError(text)
    return body


def _text(position: Position) -> str:
    kind = _BY_ENTRY if position.is_entry else _BY_KEY
    body = _HEAD.pack(kind, _digest(position.cluster_id), position.pool_id)
    if position.is_entry:
        body += _POOL.pack(position.entry_pool_id)
    body += position.after.encode()
    return base64.urlsafe_b64encode(body + _CRC.pack(zlib.crc32(body))).rstrip(b"=").decode()


def _digest(cluster_id: str) -> bytes:
    return blake2b(cluster_id.encode(), digest_size=6).digest()
