"""System calls that may never come back (a look at a file on a dead device), with a time after which the caller goes on.

A call that hangs keeps its thread until the device answers or goes. There is never more than one such thread per name:
whoever asks for the same thing meanwhile waits for the same answer.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotDone
from typing import Any, TypeVar

from csi_driver.errors import DeviceTrouble

Answer = TypeVar("Answer")

_under_way: dict[str, Future[Any]] = {}
_guard = threading.Lock()


def bounded(name: str, function: Callable[[], Answer], timeout_s: float) -> Answer:
    """What `function` returns or raises. Calls of one name must be the same call. Raises DeviceTrouble after timeout_s."""
    with _guard:
        future = _under_way.get(name)
        if future is None:
            future = _under_way[name] = Future()
            threading.Thread(target=_work, args=(name, function, future), name=name, daemon=True).start()
    try:
        answer: Answer = future.result(timeout_s)
    except NotDone as late:
        if future.done():
            raise
        raise DeviceTrouble(f"no answer within {timeout_s:g} s: {name}; the device hangs") from late
    return answer


def _work(name: str, function: Callable[[], Answer], future: "Future[Answer]") -> None:
    try:
        answer = function()
    except BaseException as error:  # noqa: BLE001 - handed to whoever waits
        _forget(name)
        future.set_exception(error)
    else:
        _forget(name)
        future.set_result(answer)


def _forget(name: str) -> None:
    with _guard:
        del _under_way[name]
