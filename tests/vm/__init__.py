"""A virtual machine with Debian's own kernel, for the node half on the real kernel client: `scripts/vm` is its command.

qemu without KVM; the guest sees this machine's root read-only with a layer of memory above it, and reaches every Ceph of this
machine, also on loopback addresses, through qemu's user-mode network. Nothing of this machine is changed.
"""
