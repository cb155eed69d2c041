"""Which nodes a volume is published to: one value of O, so that one compare covers all of them.

Key `publications` of O, JSON (ASCII): {node id: {"capability": …, "readonly": …}}; missing or empty without any. Each change
is a write that compares `state` and the whole value; the delete's mark compares it too.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from csi_driver.model import AccessMode


@dataclass(frozen=True)
class NodePublication:
    """What one node was given. capability: access type and mode, as `str(Capability)` has them."""

    capability: str
    read_only: bool = False

    @property
    def mode(self) -> AccessMode:
        return AccessMode(self.capability.rpartition("/")[2])

    @property
    def may_write(self) -> bool:
        return not (self.read_only or self.mode.is_read_only)


Publications = Mapping[str, NodePublication]
"""By node id."""


def parse_publications(text: str) -> dict[str, NodePublication]:
    """Raises ValueError on what no version of the driver writes."""
    if not text:
        return {}
    return {node: NodePublication(one["capability"], one["readonly"]) for node, one in json.loads(text).items()}


def publications_text(publications: Publications) -> str:
    if not publications:
        return ""
    values = {node: {"capability": one.capability, "readonly": one.read_only} for node, one in publications.items()}
    return json.dumps(values, sort_keys=True)
