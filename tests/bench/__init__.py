"""`make bench`: what the driver adds to bare Ceph.

Each operation goes through the driver's socket and, in turn with it, as the librbd calls that nothing can do without, on the
same cluster in the same run: so a machine's speed and its load fall out of the ratio. See docs/benchmark.md.
"""
