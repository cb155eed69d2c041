"""Where this node is in the CRUSH hierarchy, for reads from the nearest replica: by its flags, and by its Kubernetes labels.

A label's value is the name of a bucket whose type is the label's name without prefix; `hostname` is the type `host`. CRUSH
names of hosts and zones are commonly written with '-' where Kubernetes has a '.', so it is replaced. Labels are read once,
and again as long as that failed: a volume is staged without them then, and read from primaries as ever.
"""

import threading
from collections.abc import Callable, Mapping, Sequence

import structlog

from csi_driver.errors import DriverError

log = structlog.get_logger(__name__)


def bucket_type(label: str) -> str:
    name = label.rpartition("/")[2]
    return "host" if name == "hostname" else name


class CrushLocation:
    """This node's. read_labels: the Kubernetes node's, by their keys; raises DriverError."""

    def __init__(self, told: Mapping[str, str], read_labels: Callable[[], Mapping[str, str]]) -> None:
        self._told = told
        self._read_labels = read_labels
        self._guard = threading.Lock()
        self._labels: Mapping[str, str] | None = None

    def by(self, labels: Sequence[str]) -> Mapping[str, str]:
        """Names of buckets by their types: those of the flags, and of these labels. What is not known is left out."""
        if not labels:
            return self._told
        present = self._present()
        if missing := [label for label in labels if not present.get(label)]:
            log.warning("this node has no such label, which readAffinity names", labels=",".join(missing))
        found = {bucket_type(label): present[label].replace(".", "-") for label in labels if present.get(label)}
        return {**found, **self._told}

    def _present(self) -> Mapping[str, str]:
        with self._guard:
            if self._labels is None:
                try:
                    self._labels = self._read_labels()
                except DriverError as error:
                    log.warning("the labels of this node cannot be read", reason=str(error))
            return self._labels or {}
