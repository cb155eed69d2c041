"""Keeps proto/csi.proto equal to the specification and csi_driver/pb equal to proto/csi.proto; see scripts/proto."""
