"""Requests and answers as one line for the log, without what must not stand in one.

A field whose descriptor carries the option `csi_secret` shows as ***, at any depth; of a secret map the keys show, so
that a reader sees which were given. Long strings, lists, maps and lines are clipped, control characters escaped.
`str(message)` is never used: it knows nothing of the option.
"""

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from csi_driver.pb import csi_pb2

HIDDEN = "***"
MAX_STRING = 256
MAX_ITEMS = 16
MAX_LINE = 8192

Render = Callable[[Any], str]

# How each field is shown, by its full name; made when the field is first seen.
_renders: dict[str, Render] = {}


def redacted(message: Message) -> str:
    """The fields that are set, as `name=value` pairs in one line; empty for an empty message."""
    line = _fields(message)
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}… ({len(line)} characters)"


def _fields(message: Message) -> str:
    return " ".join(f"{field.name}={_known_render(field)(value)}" for field, value in message.ListFields())


def _known_render(field: FieldDescriptor) -> Render:
    name = field.full_name
    if name not in _renders:
        _renders[name] = _render_of(field)
    return _renders[name]


def _render_of(field: FieldDescriptor) -> Render:
    is_secret = field.GetOptions().Extensions[csi_pb2.csi_secret]
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        key, value = (_render_one(entry.fields_by_name[part]) for part in ("key", "value"))
        return _map_render(key, _hide if is_secret else value)
    if is_secret:
        return _hide
    return _list_render(_render_one(field)) if field.is_repeated else _render_one(field)


def _render_one(field: FieldDescriptor) -> Render:
    """How one value of the field is shown, whether or not the field repeats."""
    if field.message_type is not None:
        return lambda message: f"{{{_fields(message)}}}"
    if field.enum_type is not None:
        return _enum_render(field.enum_type)
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return _text
    return str


def _hide(_: object) -> str:
    return HIDDEN


def _text(value: str | bytes) -> str:
    """Quoted; whatever is not printable is escaped, so a value cannot end the line or begin another."""
    return repr(value) if len(value) <= MAX_STRING else f"{value[:MAX_STRING]!r}… ({len(value)} in all)"


def _enum_render(enum: EnumDescriptor) -> Render:
    names = {value.number: value.name for value in enum.values}
    return lambda number: names.get(number, str(number))


def _list_render(item: Render) -> Render:
    return lambda values: f"[{_clipped((item(value) for value in values[:MAX_ITEMS]), len(values))}]"


def _map_render(key: Render, value: Render) -> Render:
    def render(entries: Any) -> str:  # a protobuf map: a mapping of values to values or messages
        shown = sorted(entries)[:MAX_ITEMS]
        return f"{{{_clipped((f'{key(name)}: {value(entries[name])}' for name in shown), len(entries))}}}"

    return render


def _clipped(shown: Iterable[str], count: int) -> str:
    return ", ".join(shown) + (f", … ({count} in all)" if count > MAX_ITEMS else "")
