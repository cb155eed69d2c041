"""A rebuild of pools: a survey of each, what follows from it and from the claims, and one restoration after another."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from csi_driver.claims import Claims, VolumeClaim
from csi_driver.errors import AccessDenied
from csi_driver.journal.layout import VOLUMES
from csi_driver.journal.reading import Reserved
from csi_driver.model import KUBERNETES_METADATA
from csi_driver.operations.audit.survey import Progress, Survey, survey
from csi_driver.operations.rebuild.group_planning import plan_groups
from csi_driver.operations.rebuild.planning import plan
from csi_driver.operations.rebuild.restoration import Restoration
from csi_driver.operations.rebuild.restoring import restore
from csi_driver.operations.site import PoolKey, Site, Sites


@dataclass(frozen=True)
class Lost:
    """What the journal of a pool has lost, one thing."""

    cluster_id: str
    pool: str
    handle: str
    wanted: Restoration


class Rebuilder:
    """Looks at pools, and restores, with the clusters' own credentials."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    def look(self, key: PoolKey, claims: Claims, progress: Progress, *, by_metadata: bool = False) -> Iterator[Lost]:
        """claims: of all clusters · by_metadata: believe images that say whose volume they are, too.

        Nothing of a pool that this user may not read. Raises PoolMissing, ClusterUnavailable.
        """
        try:
            with self._sites.open(key) as site:
                seen = survey(site, progress)
                of_pool = _of_pool(site, claims)
                if by_metadata:
                    of_pool = replace(of_pool, volumes=(*of_pool.volumes, *_of_metadata(site, seen, of_pool)))
                elsewhere = _names_elsewhere(site, of_pool)
                for wanted in (
                    *plan(seen, of_pool, elsewhere, _of_groups(seen, claims)),
                    *plan_groups(seen, of_pool.groups, key.cluster_id),
                ):
                    yield Lost(key.cluster_id, site.pool.name, str(site.handle(wanted.uuid)), wanted)
        except AccessDenied:
            return

    def restore(self, lost: Lost) -> None:
        """Raises DriverError."""
        with self._sites.open(PoolKey(lost.cluster_id, None, lost.pool)) as site:
            restore(site, lost.wanted)


def _of_pool(site: Site, claims: Claims) -> Claims:
    place = (site.key.cluster_id, site.pool.pool_id)
    volumes = (one for one in claims.volumes if (one.handle.cluster_id, one.handle.pool_id) == place)
    snapshots = (one for one in claims.snapshots if (one.handle.cluster_id, one.handle.pool_id) == place)
    groups = (one for one in claims.groups if (one.handle.cluster_id, one.handle.pool_id) == place)
    return Claims(tuple(volumes), tuple(snapshots), tuple(groups))


def _of_groups(seen: Survey, claims: Claims) -> frozenset[str]:
    """Uuids of snapshots."""
    claimed = {one.snapshot.uuid for group in claims.groups for one in group.members}
    return frozenset(claimed | {one.snapshot_uuid for group in seen.groups.entries.values() for one in group.members})


def _of_metadata(site: Site, seen: Survey, claims: Claims) -> Iterator[VolumeClaim]:
    """A clone begins with its source's metadata, and one with a parent may be half made: it is not believed."""
    pvc, namespace, pv = KUBERNETES_METADATA
    claimed = {claim.handle.uuid for claim in claims.volumes}
    for image, facts in seen.images.items():
        uuid = image.removeprefix(VOLUMES.image_prefix)
        is_known = uuid in claimed | seen.volumes.entries.keys() | seen.volumes.deleted | seen.volumes.of_others
        if uuid == image or is_known or facts.info is None or facts.parent is not None:
            continue
        metadata = site.pool.images.get_metadata(image)
        if metadata.get(pv) and metadata.get(pvc):
            yield VolumeClaim(site.handle(uuid), metadata[pv], image, metadata.get(namespace, ""))


def _names_elsewhere(site: Site, claims: Claims) -> dict[str, Reserved]:
    found = {}
    ids = site.cluster.pool_ids()
    for claim in claims.volumes:
        if claim.journal_pool in ("", site.pool.name) or claim.journal_pool not in ids:
            continue
        with site.beside(ids[claim.journal_pool]) as names:
            if reserved := names.journal.find(claim.request_name):
                found[claim.request_name] = reserved
    return found
