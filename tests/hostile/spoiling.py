"""Turns a right request into a hostile one, or makes one of nothing."""

from pathlib import Path
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from tests.hostile.values import integers, keys, paths, texts

_MOST_SPOILT = 4
_DEEPEST = 4
_PATHS = ("path",)
_SPARED = {"DeleteVolumeRequest": "volume_id"}
"""Fields that never keep what they have: it would be carried out."""


class Spoiler:
    """Draws what is wrong. below: where paths may lead."""

    def __init__(self, draw: st.DrawFn, below: Path) -> None:
        self._draw = draw
        self._paths = paths(below)

    def spoil(self, message: Message) -> None:
        """A few fields, wherever in the message."""
        for _ in range(self._draw(st.integers(1, _MOST_SPOILT))):
            self._spoil_one(message, 0)

    def fill(self, message: Message, depth: int = 0) -> None:
        """Every field, or not."""
        for field in _fields(message):
            if self._draw(st.booleans()):
                self._set(message, field, depth)

    def _spoil_one(self, message: Message, depth: int) -> None:
        fields = _fields(message)
        if not fields:
            return
        field = self._draw(st.sampled_from(fields))
        is_inside = field.message_type is not None and not field.is_repeated and message.HasField(field.name)
        if is_inside and self._draw(st.booleans()):
            self._spoil_one(getattr(message, field.name), depth + 1)
        elif self._draw(st.integers(0, 4)) == 0:
            message.ClearField(field.name)
        else:
            self._set(message, field, depth)

    def _set(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        if _is_map(field):
            self._set_map(getattr(message, field.name), field)
        elif field.is_repeated:
            items = getattr(message, field.name)
            for _ in range(self._draw(st.sampled_from((0, 1, 2, 5, 40)))):
                if field.message_type is None:
                    items.append(self._value(field))
                elif depth < _DEEPEST:
                    self.fill(items.add(), depth + 1)
        elif field.message_type is not None:
            part = getattr(message, field.name)
            part.SetInParent()
            if depth < _DEEPEST:
                self.fill(part, depth + 1)
        else:
            setattr(message, field.name, self._value(field))

    def _set_map(self, found: Any, field: FieldDescriptor) -> None:
        assert field.message_type is not None
        value = field.message_type.fields_by_name["value"]
        if self._draw(st.booleans()):
            found.clear()
        for _ in range(self._draw(st.sampled_from((0, 1, 1, 2, 3, 60)))):
            found[self._draw(keys)] = self._value(value)

    def _value(self, field: FieldDescriptor) -> object:
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._draw(self._paths if field.name.endswith(_PATHS) else texts)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._draw(texts).encode()
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self._draw(st.booleans())
        number = self._draw(integers)
        if field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM):
            return max(-(1 << 31), min(number, (1 << 31) - 1))
        return number


def _fields(message: Message) -> list[FieldDescriptor]:
    return list(cast("Descriptor", message.DESCRIPTOR).fields)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
