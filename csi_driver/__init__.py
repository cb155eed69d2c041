"""A CSI driver for Ceph RBD. Start with docs/architecture.md; the program begins in __main__.py."""
