"""Values of an entry in the file of KMS entries, each with what is said when it cannot be meant."""

from collections.abc import Mapping
from typing import Any

from csi_driver.config import ConfigError

_TRUE, _FALSE = frozenset({"1", "t", "true"}), frozenset({"0", "f", "false"})


def text_of(kms_id: str, entry: Mapping[str, Any], key: str) -> str:
    """Empty where the key is missing. Raises ConfigError."""
    value = entry.get(key, "")
    if not isinstance(value, str) or not value.isprintable():
        raise ConfigError(f"entry {kms_id!r}: {key} is {value!r}; a text without control characters is needed")
    return value


def truth_of(kms_id: str, entry: Mapping[str, Any], key: str, *, default: bool) -> bool:
    """JSON's own, or the text that the Go driver wants. Raises ConfigError."""
    value = entry.get(key, "")
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and (word := value.lower()) in _TRUE | _FALSE | {""}:
        return word in _TRUE if word else default
    raise ConfigError(f"entry {kms_id!r}: {key} is {value!r}; allowed are true and false")
