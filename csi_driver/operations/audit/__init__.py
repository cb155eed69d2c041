"""`rbd-csi audit` and `rbd-csi repair`: what no entry of the journal explains, and what no image answers to.

survey.py reads a pool whole, rules.py says what is wrong with it (pure), repair.py mends one finding. A driver that works
meanwhile makes and removes things in several writes: only what two surveys find, some seconds apart, is a finding. A repair
goes through the journal's compares like any other write, and whatever holds data that no entry explains is mended only when
it is named.
"""
