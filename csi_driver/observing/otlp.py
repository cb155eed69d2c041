"""`--otlp-endpoint URL`: every call as an OpenTelemetry span with its steps as children, sent to a collector.

OTLP over HTTP in its JSON form, which needs no library: those that there are ask for another protobuf than the driver has.
What the collector does not take is dropped and counted in the log; no call ever waits for it.
"""

import json
import queue
import secrets
import threading
import time
import urllib.request
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from csi_driver.tracing import Call, StepEnd

log = structlog.get_logger(__name__)

_EVERY_S = 2.0
_MOST_WAITING = 10_000
_MOST_AT_ONCE = 512
_TIMEOUT_S = 10.0
_SERVER, _INTERNAL = 2, 1
"""Kinds of spans."""
_FAILED = {"code": 2}


@dataclass(frozen=True)
class _Ids:
    """Of a call's span, under which its steps are."""

    trace: str
    span: str


class OtlpTraces:
    """An observer. resource: what every span is told to come from."""

    def __init__(self, endpoint: str, resource: Mapping[str, str]) -> None:
        """endpoint: of the collector, without `/v1/traces`."""
        self._url = endpoint.rstrip("/") + "/v1/traces"
        self._resource = {"attributes": _attributes(resource)}
        self._waiting: queue.Queue[dict[str, Any]] = queue.Queue(_MOST_WAITING)
        self._ids: weakref.WeakKeyDictionary[Call, _Ids] = weakref.WeakKeyDictionary()
        self._guard = threading.Lock()
        self._dropped = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="traces", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What waits is sent first, in bounds."""
        self._stopping.set()
        self._thread.join(_TIMEOUT_S)

    def step_ended(self, ended: StepEnd) -> None:
        ids = self._ids_of(ended.call) if ended.call else _new_ids()
        span = _span(ids.trace, secrets.token_hex(8), ended.name, ended.seconds, {"csi.object": ended.subject})
        if ended.call:
            span["parentSpanId"] = ids.span
        if ended.error:
            span["status"] = {**_FAILED, "message": repr(ended.error)}
        self._put({**span, "kind": _INTERNAL})

    def call_ended(self, call: Call, code: str, seconds: float) -> None:
        ids = self._ids_of(call)
        told = {"rpc.system": "grpc", "rpc.method": call.method, "csi.object": call.subject}
        told |= {"csi.call": call.call_id, "rpc.response.status_code": code}
        span = _span(ids.trace, ids.span, call.method, seconds, told)
        if code != "OK":
            span["status"] = _FAILED
        self._put({**span, "kind": _SERVER})

    def _ids_of(self, call: Call) -> _Ids:
        with self._guard:
            return self._ids.setdefault(call, _new_ids())

    def _put(self, span: dict[str, Any]) -> None:
        try:
            self._waiting.put_nowait(span)
        except queue.Full:
            self._dropped += 1

    def _send_all(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            self._send_waiting()
        self._send_waiting()

    def _send_waiting(self) -> None:
        while spans := self._next():
            try:
                self._send(spans)
            except (OSError, ValueError) as trouble:
                self._dropped += len(spans)
                log.warning("traces are not taken", url=self._url, reason=str(trouble), dropped=self._dropped)
                return

    def _next(self) -> list[dict[str, Any]]:
        spans: list[dict[str, Any]] = []
        while len(spans) < _MOST_AT_ONCE and not self._waiting.empty():
            spans.append(self._waiting.get_nowait())
        return spans

    def _send(self, spans: list[dict[str, Any]]) -> None:
        scope = {"scope": {"name": "rbd-csi"}, "spans": spans}
        body = {"resourceSpans": [{"resource": self._resource, "scopeSpans": [scope]}]}
        request = urllib.request.Request(  # noqa: S310 - the scheme is http or https: config.parse_url
            self._url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310 - likewise
            pass


def _new_ids() -> _Ids:
    return _Ids(secrets.token_hex(16), secrets.token_hex(8))


def _span(trace: str, span: str, name: str, seconds: float, told: Mapping[str, str]) -> dict[str, Any]:
    end = time.time_ns()
    times = {"startTimeUnixNano": str(end - int(seconds * 1e9)), "endTimeUnixNano": str(end)}
    return {"traceId": trace, "spanId": span, "name": name, **times, "attributes": _attributes(told)}


def _attributes(values: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items() if value]
