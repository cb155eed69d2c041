"""A Ceph in memory behind the Protocols of csi_driver/ceph/api, for simulation and crash injection.

Owns the state of one cluster (state.py) and the calls on it: objects.py, images.py, snaps.py, ancestry.py, cluster.py.
Each call is atomic. A client (seam.py) may be made to die before and after each, and between those steps of librbd that
leave something half done behind. The contract tests of tests/ceph hold it to what a real Ceph does.

Data is a small number for each block of 1 MiB; 0 is what was never written.
"""

from tests.memory_ceph.cluster import MemoryCeph, MemoryClusters
from tests.memory_ceph.seam import Client, Crash
from tests.memory_ceph.state import BLOCK

__all__ = ["BLOCK", "Client", "Crash", "MemoryCeph", "MemoryClusters"]
