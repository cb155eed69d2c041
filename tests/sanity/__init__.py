"""csi-sanity, the conformance test of the CSI community, against the real driver on a real Ceph; see scripts/sanity."""
