"""A CSI driver for Ceph RBD. Start with docs/architecture.md; the program begins in __main__.py."""

VERSION = "0.1.0"
"""As in pyproject.toml. Here because importlib.metadata, which reads it from there, takes 3 MB of each driver."""
