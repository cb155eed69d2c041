"""Stubs generated from proto/csi.proto by scripts/proto; never edited. Only rpc imports them."""
