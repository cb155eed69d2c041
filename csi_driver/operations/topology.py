"""Which pool a volume gets, of those that its class binds to parts of the topology: pure decisions (CSI: CreateVolume).

A pool can be reached from a topology that has all of the pool's domains with the same values. The first topology asked for
that a pool fits has the say, in the order preferred, then requisite; of the pools that fit it the first of the class.
"""

from collections.abc import Iterable
from dataclasses import replace

from csi_driver.errors import NoSpace
from csi_driver.model import ConstrainedPool, Segments, VolumeSpec


def is_reachable(segments: Segments, wishes: Iterable[Segments]) -> bool:
    """Whether what is bound to these segments can be reached from one of the topologies asked for, or nothing is asked."""
    asked = list(wishes)
    return not segments or not asked or any(_fits(segments, one) for one in asked)


def choose_pool(spec: VolumeSpec) -> ConstrainedPool:
    """Of the class's constrained pools. Raises NoSpace (CSI: RESOURCE_EXHAUSTED, "unable to provision in topology")."""
    if not spec.reachable_from:
        return spec.constrained_pools[0]
    for wish in spec.reachable_from:
        for pool in spec.constrained_pools:
            if _fits(pool.segments, wish):
                return pool
    asked = "; ".join(_shown(one) for one in spec.reachable_from)
    known = "; ".join(f"{pool.name}: {_shown(pool.segments)}" for pool in spec.constrained_pools)
    raise NoSpace(
        f"accessibility_requirements: no pool of topologyConstrainedPools can be reached from {asked}; there are {known}"
    )


def bound_to(spec: VolumeSpec, pool: ConstrainedPool) -> VolumeSpec:
    """The request as it is for one of its pools."""
    layout = replace(spec.layout, data_pool=pool.data_pool) if pool.data_pool else spec.layout
    return replace(spec, pool=pool.name, layout=layout, topology=pool.segments)


def _fits(segments: Segments, wish: Segments) -> bool:
    return segments.items() <= wish.items()


def _shown(segments: Segments) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(segments.items())) or "anywhere"
