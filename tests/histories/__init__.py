"""The random histories of tests/simulation, lived by two driver processes on a real Ceph.

The steps, the model of what was promised, the rules and the end are the same. What differs: world.py is a real pool,
replica.py a driver process behind its socket that dies at random fail points, and history.py makes two calls at once where
the simulation nests them. life.py is the program that lives one, apart from pytest: librbd may end it.
"""
