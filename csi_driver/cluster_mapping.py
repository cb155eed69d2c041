"""Handles of a cluster that another one has taken the place of: which cluster id and pool id stand for theirs there.

After a fail-over to the cluster that its pools were mirrored to, orchestrators go on with the handles that they know. The
pairs are read in both directions, so that the same file serves the way back: a handle is translated to the side that the
clusters file knows. Where both sides have one id, the pools alone tell, from left to right.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from csi_driver.ids import Handle


@dataclass(frozen=True)
class ClusterPair:
    """Cluster ids and pool ids of one pair of clusters, each by its counterpart."""

    cluster_ids: Mapping[str, str]
    pool_ids: Mapping[int, int]


@dataclass(frozen=True)
class ClusterMapping:
    """All pairs, in the file's order."""

    pairs: tuple[ClusterPair, ...] = ()

    def translate(self, handle: Handle, known: Collection[str]) -> Handle:
        """known: the ids of the clusters file. The handle as it is, where no pair has its cluster and its pool."""
        for old, new, pools in self._directions():
            is_other = handle.cluster_id == old and new in known and (old == new or old not in known)
            if is_other and handle.pool_id in pools:
                return replace(handle, cluster_id=new, pool_id=pools[handle.pool_id])
        return handle

    def translate_text(self, text: str, known: Collection[str]) -> str:
        """What is no handle stays as it is."""
        handle = Handle.parse(text)
        return text if handle is None else str(self.translate(handle, known))

    def other_names(self, text: str) -> tuple[str, ...]:
        """The handles that this one may have had before it was translated; none for what is no handle."""
        handle = Handle.parse(text)
        if handle is None:
            return ()
        return tuple(
            str(replace(handle, cluster_id=old, pool_id=old_pool))
            for old, new, pools in self._directions()
            for old_pool, new_pool in pools.items()
            if (new, new_pool) == (handle.cluster_id, handle.pool_id) and (old, old_pool) != (new, new_pool)
        )

    def _directions(self) -> Iterator[tuple[str, str, Mapping[int, int]]]:
        for pair in self.pairs:
            back = {new: old for old, new in pair.pool_ids.items()}
            for old, new in pair.cluster_ids.items():
                yield old, new, pair.pool_ids
                if old != new:
                    yield new, old, back
