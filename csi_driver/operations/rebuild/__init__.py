"""`rbd-csi rebuild`: what the journal has lost, from the images and from what the orchestrator still knows.

planning.py says what is to be restored (pure), restoring.py does one of it, rebuilder.py goes through a pool. What stands in
the journal is never written over: where it says something else, that is told. An entry is written before its name, so that
a run that was cut short is taken up by the next one: what it has done is found done.
"""
