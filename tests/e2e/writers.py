"""Pods that write and sync without end, and tell of the first write that failed."""

from tests.e2e.bed import Bed
from tests.e2e.objects import claim_object, in_pod, of_claim, pod

_WRITE = "dd if=/dev/zero of=/data/block bs=4k count=1 conv=fsync,notrunc 2> /dev/null && echo x >> /data/log"
_COMMAND = (
    f"while true; do {{ {_WRITE}; }} || echo failed >> /errors; usleep 300000; done & echo hello > /data/greeting"
)


class Writers:
    """Each with a claim of its own; started together."""

    def __init__(self, bed: Bed, number: int, prefix: str = "writer") -> None:
        self._bed = bed
        self.names = tuple(f"{prefix}-{n}" for n in range(number))
        bed.kubectl.apply(*(claim_object(name) for name in self.names))
        for name in self.names:
            pod(bed, name, of_claim(name), _COMMAND)
        for name in self.names:
            bed.kubectl.await_condition(f"pod/{name}", "condition=Ready")

    def check(self) -> None:
        """All go on, and no write has failed. Raises AssertionError."""
        for name, before in {name: self._lines(name) for name in self.names}.items():
            self._bed.kubectl.await_that(f"{name} goes on writing", lambda n=name, b=before: self._lines(n) > b + 2)  # type: ignore[misc]
            assert in_pod(self._bed, name, "cat /errors 2> /dev/null || true") == ""

    def delete(self) -> None:
        self._bed.kubectl.delete(*(f"pod/{name}" for name in self.names))
        self._bed.kubectl.delete(*(f"pvc/{name}" for name in self.names))

    def _lines(self, name: str) -> int:
        return int(in_pod(self._bed, name, "wc -l < /data/log"))
