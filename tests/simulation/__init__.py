"""Random histories of the driver's operations, with crashes and a second replica, against a model of what was promised.

steps.py draws a history, machine.py lives it, model.py knows what was answered, invariants.py looks into the pool after
each step. Everything is decided by the drawn steps: time and uuids are virtual (virtual.py), so that a failure shrinks.
"""
