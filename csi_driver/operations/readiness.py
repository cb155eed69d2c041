"""Whether the driver can do its work: looked at in the background, so that Probe answers at once."""

import threading
from collections.abc import Callable, Iterable

import structlog

from csi_driver.errors import DriverError, NotReady
from csi_driver.rounds import Rounds

log = structlog.get_logger(__name__)

_EAGER_S = 1.0
_CALM_S = 10.0


class Readiness:
    """Ready when at least one cluster can be reached: one that cannot must not take the others' volumes down."""

    def __init__(self, cluster_ids: Callable[[], Iterable[str]], check: Callable[[str], None]) -> None:
        """`check` raises DriverError when a cluster cannot be reached."""
        self._cluster_ids = cluster_ids
        self._check = check
        self.rounds = Rounds("readiness", self._look)
        self._guard = threading.Lock()
        self._troubles: dict[str, str] | None = None
        self._is_any_up = False
        self._was_any_up = False

    def is_ready(self) -> bool:
        """False while the driver starts: until a cluster was reached for the first time (docs/decisions/0026).

        Raises NotReady with each cluster's trouble when none can be reached any more.
        """
        with self._guard:
            if self._is_any_up:
                return True
            if not self._was_any_up:
                return False
            raise NotReady(self._all_troubles())

    def reason(self) -> str:
        """Why the driver is not ready; empty when it is."""
        with self._guard:
            if self._is_any_up:
                return ""
            return self._all_troubles() if self._troubles else "starting"

    def _all_troubles(self) -> str:
        return "no cluster can be reached: " + "; ".join((self._troubles or {}).values())

    def troubles(self) -> dict[str, str]:
        """Why a cluster cannot be reached, by cluster id; none of those that can, or that nothing is known of yet."""
        with self._guard:
            return dict(self._troubles or {})

    def _look(self) -> float:
        troubles: dict[str, str] = {}
        is_any_up = False
        for cluster_id in self._cluster_ids():
            try:
                self._check(cluster_id)
                is_any_up = True
            except DriverError as error:
                troubles[cluster_id] = str(error)
                log.warning("cluster cannot be reached", cluster=cluster_id, reason=str(error))
            except Exception as error:
                troubles[cluster_id] = f"cluster {cluster_id!r}: unknown fault {error!r}"
                log.exception("cluster cannot be looked at", cluster=cluster_id)
        with self._guard:
            self._troubles, self._is_any_up = troubles, is_any_up
            self._was_any_up |= is_any_up
        return _CALM_S if is_any_up else _EAGER_S
