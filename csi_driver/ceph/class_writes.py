"""Writes to librbd's own objects by its class calls."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ClassWrite:
    """One atomic write to one object: what is made, then class calls as (class, method, payload), then keys.

    The calls see the object as it was before all of it. is_new: refused where the object is there; else it may be missing,
    unless a call refuses that. is_removal: the object goes, and that is all.
    """

    name: str
    calls: tuple[tuple[str, str, bytes], ...] = ()
    put: Mapping[str, str] = field(default_factory=dict)
    is_new: bool = False
    is_removal: bool = False
