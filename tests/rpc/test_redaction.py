"""No secret of any request reaches the log, and all the rest does.

Walks every request message of csi.proto, so a message that a newer release adds is covered without a line here.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from csi_driver.pb import csi_pb2
from csi_driver.rpc.redaction import MAX_ITEMS, MAX_LINE, MAX_STRING, redacted

REQUESTS = [method.input_type for service in csi_pb2.DESCRIPTOR.services_by_name.values() for method in service.methods]


class Filler:
    """Fills every field of a message, each value once; of a oneof the given choice, so that all come up over time."""

    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._numbers = itertools.count(1)
        self.shown: list[str] = []
        self.hidden: list[str] = []

    def fill(self, message: Message, *, is_secret: bool = False) -> None:
        for field in _chosen(cast("Descriptor", message.DESCRIPTOR).fields, self._choice):
            is_hidden = is_secret or field.GetOptions().Extensions[csi_pb2.csi_secret]
            if _is_map(field):
                self._fill_map(message, field, is_hidden)
            elif field.is_repeated:
                self._fill_list(getattr(message, field.name), field, is_hidden)
            elif field.message_type is not None:
                part = getattr(message, field.name)
                part.SetInParent()
                self.fill(part, is_secret=is_hidden)
            else:
                setattr(message, field.name, self._value(field, is_hidden))

    def _fill_map(self, message: Message, field: FieldDescriptor, is_hidden: bool) -> None:
        assert field.message_type is not None
        value = field.message_type.fields_by_name["value"]
        for _ in range(3):
            key = self._marker("key", is_hidden=False)
            getattr(message, field.name)[key] = self._value(value, is_hidden)

    def _fill_list(self, items: Any, field: FieldDescriptor, is_hidden: bool) -> None:
        for _ in range(3):
            if field.message_type is not None:
                self.fill(items.add(), is_secret=is_hidden)
            else:
                items.append(self._value(field, is_hidden))

    def _value(self, field: FieldDescriptor, is_hidden: bool) -> object:
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._marker("value", is_hidden)
        if field.type == FieldDescriptor.TYPE_BOOL:
            return True
        if field.enum_type is not None:
            self._expect(field.enum_type.values[-1].name, is_hidden)
            return field.enum_type.values[-1].number
        number = 700000000 + next(self._numbers)
        self._expect(str(number), is_hidden)
        return number

    def _marker(self, kind: str, is_hidden: bool) -> str:
        text = f"{'hidden' if is_hidden else 'shown'}-{kind}-{next(self._numbers)}-end"
        self._expect(text, is_hidden)
        return text

    def _expect(self, text: str, is_hidden: bool) -> None:
        (self.hidden if is_hidden else self.shown).append(text)


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type is not None and field.message_type.GetOptions().map_entry)


def _chosen(fields: Iterable[FieldDescriptor], choice: int) -> Iterator[FieldDescriptor]:
    for field in fields:
        rivals = field.containing_oneof.fields if field.containing_oneof else [field]
        if rivals[choice % len(rivals)].number == field.number:
            yield field


@pytest.mark.parametrize("choice", [0, 1])
@pytest.mark.parametrize("descriptor", REQUESTS, ids=lambda descriptor: descriptor.name)
def test_a_full_request_shows_all_but_its_secrets(descriptor: Descriptor, choice: int) -> None:
    """With every field set, at every depth, each plain value stands in the line and no secret does."""
    message, filler = GetMessageClass(descriptor)(), Filler(choice)
    filler.fill(message)
    line = redacted(message)
    assert [text for text in filler.hidden if text in line] == []
    assert [text for text in filler.shown if text not in line] == []
    assert all(field.name in line for field in _chosen(descriptor.fields, choice))
    assert "\n" not in line


def test_the_walk_meets_secrets_and_plain_values() -> None:
    """The test above is not empty: requests have fields of both kinds, also inside other messages."""
    fillers = []
    for descriptor in REQUESTS:
        filler = Filler(0)
        filler.fill(GetMessageClass(descriptor)())
        fillers.append(filler)
    assert sum(bool(filler.hidden) for filler in fillers) >= 20
    assert sum(len(filler.shown) for filler in fillers) >= 200


def test_the_line_reads_as_expected() -> None:
    """Keys of secrets show, enums by name, nested messages in braces, what is not set not at all."""
    request = csi_pb2.CreateVolumeRequest(name="pvc-1", secrets={"userKey": "AQ==", "userID": "admin"})
    request.capacity_range.required_bytes = 1024
    capability = request.volume_capabilities.add()
    capability.access_mode.mode = csi_pb2.VolumeCapability.AccessMode.SINGLE_NODE_WRITER
    capability.block.SetInParent()
    assert redacted(request) == (
        "name='pvc-1' capacity_range={required_bytes=1024}"
        " volume_capabilities=[{block={} access_mode={mode=SINGLE_NODE_WRITER}}]"
        " secrets={'userID': ***, 'userKey': ***}"
    )


def test_an_enum_value_of_a_newer_release_shows_as_its_number() -> None:
    """A number without a name neither fails nor vanishes."""
    request = csi_pb2.NodeStageVolumeRequest()
    request.volume_capability.access_mode.mode = 99  # type: ignore[assignment]
    assert "mode=99" in redacted(request)


def test_control_characters_cannot_forge_a_line() -> None:
    """Line ends and escapes in a name show as escapes."""
    line = redacted(csi_pb2.CreateVolumeRequest(name="a\nlevel=error \x1b[31m\x85\u2028 ä"))
    assert line == r"name='a\nlevel=error \x1b[31m\x85\u2028 ä'"


def test_long_values_are_clipped() -> None:
    """A long string, list or map shows its beginning and its size; so does a long line."""
    assert redacted(csi_pb2.DeleteVolumeRequest(volume_id="x" * 300)) == f"volume_id='{'x' * MAX_STRING}'… (300 in all)"
    ids = [f"id-{number:03}" for number in range(40)]
    listed = redacted(csi_pb2.CreateVolumeGroupSnapshotRequest(source_volume_ids=ids))
    assert f"'id-{MAX_ITEMS - 1:03}', … (40 in all)]" in listed
    assert f"id-{MAX_ITEMS:03}" not in listed
    mapped = redacted(csi_pb2.GetCapacityRequest(parameters=dict.fromkeys(ids, "v")))
    assert f"'id-{MAX_ITEMS - 1:03}': 'v', … (40 in all)}}" in mapped
    longest = csi_pb2.CreateVolumeRequest()
    for _ in range(MAX_ITEMS):
        longest.accessibility_requirements.requisite.add().segments.update(dict.fromkeys(ids, "v" * 256))
    assert len(redacted(longest)) < MAX_LINE + 40
