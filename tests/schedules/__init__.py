"""Schedules: three operations of two or three replicas, interleaved at every call to Ceph, with one crash or error.

scenes.py says what stands in the pool before, schedule.py draws a schedule from its number, turns.py lets one operation run
at a time, trial.py runs a schedule and checks what must hold after it, faults.py says what can happen at which call, and
run.py takes many. The promises and the rules are those of the random histories (tests/simulation).
"""
