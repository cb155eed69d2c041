"""Around every RPC: its id, its deadline, one log line in and one out, and errors turned into status codes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import grpc
import structlog
from google.protobuf.message import Message

from csi_driver import tracing
from csi_driver.errors import DriverError
from csi_driver.rpc.redaction import redacted
from csi_driver.rpc.status import code_of
from csi_driver.rpc.wrapping import Found, Handler, StreamHandler, wrapped

log = structlog.get_logger(__name__)

_MARGIN_S = 0.2
"""The answer leaves this much before the client's own deadline."""

_SUBJECTS = ("name", "volume_id", "snapshot_id", "target_snapshot_id", "group_snapshot_id", "volume_path")


class CallInterceptor(grpc.ServerInterceptor):
    """Turns each handler into one that is logged, bounded in time and free of stray exceptions.

    A stream that ends without an error says that it is complete, so that whatever fails ends it with one.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Found], handler_call_details: grpc.HandlerCallDetails
    ) -> Found:
        method = handler_call_details.method.rpartition("/")[2]
        return wrapped(
            continuation(handler_call_details),
            lambda handler: self._wrapped(method, handler),
            lambda handler: self._streaming(method, handler),
        )

    def _wrapped(self, method: str, handler: Handler) -> Handler:
        def handle(request: Message, context: grpc.ServicerContext) -> Message:
            call = tracing.Call(method, subject=_subject(request))
            call.deadline = call.started + self._seconds(context)
            tracing.begin(call)
            _log_request(method, request)
            try:
                answer = handler(request, context)
            except Exception as error:
                _log_answer(call, error)
                context.abort(code_of(error), _message(call, error))
                raise  # never reached: abort raises
            _log_answer(call, None)
            return answer

        return handle

    def _streaming(self, method: str, handler: StreamHandler) -> StreamHandler:
        def handle(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
            call = tracing.Call(method, subject=_subject(request))
            tracing.begin(call)
            _log_request(method, request)
            try:
                answers = iter(handler(request, context))
                while context.is_active():
                    # Each message has its time: a stream may be longer than any call, and its reader slow.
                    call.deadline = time.monotonic() + self._seconds(context)
                    tracing.begin(call)
                    answer = next(answers, None)
                    if answer is None:
                        break
                    yield answer
            except Exception as error:
                _log_answer(call, error)
                context.abort(code_of(error), _message(call, error))
                raise  # never reached: abort raises
            _log_answer(call, None)

        return handle

    def _seconds(self, context: grpc.ServicerContext) -> float:
        remaining = context.time_remaining()
        return self._timeout_s if remaining is None else max(min(self._timeout_s, remaining - _MARGIN_S), 0.0)


def _subject(request: Message) -> str:
    fields = request.DESCRIPTOR.fields_by_name
    return next((value for field in _SUBJECTS if field in fields and (value := getattr(request, field))), "")


def _log_request(method: str, request: Message) -> None:
    if log.is_enabled_for(logging.INFO):
        log.info("request", method=method, request=redacted(request))


def _message(call: tracing.Call, error: Exception) -> str:
    if isinstance(error, DriverError):
        return f"{error} [call {call.call_id}]"
    if isinstance(error, NotImplementedError):
        return f"{call.method} is not offered by this instance"
    return f"unknown fault in call {call.call_id}, see the driver's log: {type(error).__name__}"


def _log_answer(call: tracing.Call, error: Exception | None) -> None:
    tracing.call_ended(call, "OK" if error is None else code_of(error).name)
    known = {"method": call.method, "of": call.subject, "seconds": round(time.monotonic() - call.started, 4)}
    if error is None:
        log.info("answer", code="OK", **known)
    elif isinstance(error, DriverError | NotImplementedError):
        log.warning("answer", code=code_of(error).name, reason=str(error), **known)
    else:
        log.error("answer", code=code_of(error).name, phase=call.phase, exc_info=error, **known)
