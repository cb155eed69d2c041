"""Before every RPC where clusters are mapped: handles of a cluster that is gone become those of the one in its place.

All that stands behind sees one handle for each volume, so that locks, journal and records have one name for it. The field
of a request holds handles when its name says so (CSI: volume_id, source_volume_ids, base_snapshot_id, …).
"""

from __future__ import annotations

from collections.abc import Callable

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from csi_driver.rpc.wrapping import Found, Handler, StreamHandler, wrapped

Translate = Callable[[str], str]

_ENDINGS = ("volume_id", "volume_ids", "snapshot_id", "snapshot_ids")


class HandleInterceptor(grpc.ServerInterceptor):
    """Gives each handler a request with translated handles."""

    def __init__(self, translate: Translate) -> None:
        self._translate = translate

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Found], handler_call_details: grpc.HandlerCallDetails
    ) -> Found:
        return wrapped(continuation(handler_call_details), self._unary, self._streaming)

    def _unary(self, handler: Handler) -> Handler:
        return lambda request, context: handler(translated(request, self._translate), context)

    def _streaming(self, handler: StreamHandler) -> StreamHandler:
        return lambda request, context: handler(translated(request, self._translate), context)


def translated(message: Message, translate: Translate) -> Message:
    """The message itself, changed."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if field.message_type is not None and not field.message_type.GetOptions().map_entry:
                for one in value if field.is_repeated else (value,):
                    translated(one, translate)
        elif field.type == FieldDescriptor.TYPE_STRING and field.name.endswith(_ENDINGS):
            if field.is_repeated:
                value[:] = [translate(one) for one in value]
            else:
                setattr(message, field.name, translate(value))
    return message
