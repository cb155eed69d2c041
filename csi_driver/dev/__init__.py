"""A one-node Ceph for development and tests: mon, mgr and OSDs on files, as background processes of this machine.

`up`, `down` and `status` in cluster.py are the interface; `DevCeph` in layout.py is what they give. A cluster lives in
one directory and has a loopback address of its own, so that any number of them run side by side. Nothing of it is part
of the driver: `serve` never imports this package.
"""
