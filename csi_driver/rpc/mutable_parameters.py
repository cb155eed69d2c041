"""Mutable parameters of CreateVolume and ControllerModifyVolume: every key that is known, and its parser.

The names of the limits are those of the widely deployed Ceph CSI driver, but for the bursts, which it has not.
docs/parameters.md is tested against this table.
"""

import re
from collections.abc import Mapping

from csi_driver import mutable
from csi_driver.errors import InvalidRequest
from csi_driver.model import FlattenMode
from csi_driver.mutable import Value
from csi_driver.rpc.fields import check_map
from csi_driver.rpc.parameters import KUBERNETES_PREFIX, MOST_DEPTH, parse_duration

KEYS = (*mutable.LIMIT_KEYS, *mutable.FLATTEN_KEYS, mutable.RETENTION)


def parse_mutable(given: Mapping[str, str]) -> dict[str, Value]:
    """All keys or none. Raises InvalidRequest that names the key, the value and what is allowed."""
    checked = check_map("mutable_parameters", given)
    return {key: _parse(key, text) for key, text in sorted(checked.items()) if not key.startswith(KUBERNETES_PREFIX)}


def _parse(key: str, text: str) -> Value:
    if key not in KEYS:
        raise InvalidRequest(
            f"mutable_parameters: {key!r} is not known; allowed are {', '.join(KEYS)} and {KUBERNETES_PREFIX}*"
        )
    field = f"mutable_parameters[{key!r}]"
    if key == mutable.FLATTEN:
        if text not in list(FlattenMode):
            raise InvalidRequest(f"{field} is {text!r}; allowed are {', '.join(FlattenMode)}")
        return text
    if key == mutable.RETENTION:
        return parse_duration(field, text)
    if key in mutable.FLATTEN_KEYS:
        return _number(field, text, 1, MOST_DEPTH)
    return _number(field, text, 0, mutable.MOST if key != mutable.BASE_SIZE else 1 << 60)


def _number(field: str, text: str, low: int, high: int) -> int:
    number = int(text) if re.fullmatch(r"[0-9]{1,19}", text) else -1
    if not low <= number <= high:
        raise InvalidRequest(f"{field} is {text!r}; allowed are whole numbers from {low} to {high}")
    return number
