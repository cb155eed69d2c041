"""What befalls a volume behind the answers of its calls, for those who use it: no error of a call says it."""

from collections.abc import Callable
from dataclasses import dataclass

FENCED = "VolumeFenced"
FLATTENING = "Flattening"
FLATTENED = "Flattened"
FLATTEN_PUT_OFF = "FlattenPutOff"
MANY_SNAPSHOTS = "ManySnapshots"


@dataclass(frozen=True)
class Notice:
    """volume_name: what the volume was asked for as · reason: one CamelCase word, of those above."""

    volume_name: str
    reason: str
    message: str
    is_warning: bool = True


Tell = Callable[[Notice], None]
"""Returns at once, and raises nothing."""


def tell_nobody(_notice: Notice) -> None:
    """Where there is no orchestrator that shows notices."""
