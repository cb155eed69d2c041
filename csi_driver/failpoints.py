"""Points at which tests make the process die, pause, wait or fail. Unset, they cost one look at a module variable.

RBD_CSI_FAILPOINTS holds entries `STEP:before|after[:HIT]=ACTION` separated by `;`. STEP is the name given to
tracing.step, HIT the number of the visit that counts (1 by default; each entry acts once). ACTION is one of
  kill         SIGKILL to the own process          stop   SIGSTOP to the own process
  delay:S      wait S seconds                      error:ERRNO   raise ClusterTimeout for 110, else ClusterUnavailable
"""

import os
import re
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass

from csi_driver.errors import ClusterTimeout, ClusterUnavailable

VARIABLE = "RBD_CSI_FAILPOINTS"

_ENTRY = re.compile(r"([a-z_.]+):(before|after)(?::([1-9]\d*))?=(kill|stop|delay:\d+(?:\.\d+)?|error:\d+)")


@dataclass(frozen=True)
class _Point:
    hit: int
    action: str


armed: dict[str, _Point] = {}
_visits: Counter[str] = Counter()
_guard = threading.Lock()


def arm(text: str) -> None:
    """Read the entries. Raises ValueError that names the entry and the form."""
    for entry in filter(None, text.split(";")):
        match = _ENTRY.fullmatch(entry.strip())
        if not match:
            raise ValueError(f"{VARIABLE}: {entry!r} is not STEP:before|after[:HIT]=kill|stop|delay:S|error:ERRNO")
        armed[f"{match[1]}:{match[2]}"] = _Point(int(match[3] or 1), match[4])


def reach(place: str) -> None:
    """A step passes a place; act if an entry names it."""
    point = armed.get(place)
    if not point:
        return
    with _guard:
        _visits[place] += 1
        if _visits[place] != point.hit:
            return
    action, _, value = point.action.partition(":")
    # To the own thread: sent to the process, the signal may be taken by another, while this one goes on past the place.
    if action == "kill":
        signal.pthread_kill(threading.get_ident(), signal.SIGKILL)
    elif action == "stop":
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    elif action == "delay":
        time.sleep(float(value))
    elif int(value) == 110:
        raise ClusterTimeout(f"failpoint {place}: timed out")
    else:
        raise ClusterUnavailable(f"failpoint {place}: {os.strerror(int(value))}")
