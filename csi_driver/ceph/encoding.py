"""How Ceph writes texts and structures into what class calls take and answer (Ceph: src/include/encoding.h)."""

import struct


def packed(text: str) -> bytes:
    """Its length in bytes (u32), then UTF-8."""
    raw = text.encode()
    return struct.pack("<I", len(raw)) + raw


def text_at(raw: bytes, at: int) -> tuple[str, int]:
    """The text that begins there, and where it ends."""
    (length,) = struct.unpack_from("<I", raw, at)
    return raw[at + 4 : at + 4 + length].decode(), at + 4 + length


def versioned(version: int, body: bytes) -> bytes:
    """A structure: its version (u8), the oldest that can read it (u8), its length (u32)."""
    return struct.pack("<BBI", version, 1, len(body)) + body
