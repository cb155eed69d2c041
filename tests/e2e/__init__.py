"""`make e2e`: the driver in a real Kubernetes on this machine, as its chart and its image install it.

etcd, the control plane, containerd, the kubelet and the sidecars are built from their Go modules (programs.py) and kept
outside the checkout; the cluster (control_plane.py, node.py) is plain processes on loopback, root's alone. The scenario
(scenario.py) is what a user does. See docs/development.md.
"""
