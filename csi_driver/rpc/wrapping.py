"""A gRPC handler with something around it, of the same kind and the same messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message

Handler = Callable[[Any, grpc.ServicerContext], Message]
StreamHandler = Callable[[Any, grpc.ServicerContext], Iterator[Message]]
Found: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


def wrapped(
    found: Found, unary: Callable[[Handler], Handler], streaming: Callable[[StreamHandler], StreamHandler]
) -> Found:
    """What an interceptor's continuation found, wrapped by what is meant for its kind; None where there is none."""
    if found is None:
        return None
    messages: dict[str, Any] = {
        "request_deserializer": found.request_deserializer,
        "response_serializer": found.response_serializer,
    }
    if found.unary_stream is not None:
        return grpc.unary_stream_rpc_method_handler(streaming(found.unary_stream), **messages)
    if found.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(unary(found.unary_unary), **messages)
    return found
