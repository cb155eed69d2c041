"""What can go wrong, told by what it leaves behind. Knows no gRPC: rpc/status.py maps each class to its code.

Two families. `Rejected` is final: the call left nothing behind, and calling again changes nothing. `Unfinished` asks to
be called again: something may remain, and the journal knows it. Whatever is neither needs a person.

Every message names the object, the reason and, where there is one, the remedy; never a secret.
"""


class DriverError(Exception):
    """Base of all errors that the driver raises on purpose."""


class Rejected(DriverError):
    """Final: this call left nothing behind."""


class InvalidRequest(Rejected):
    """A field is missing, malformed or not supported; the message names the field, the value and what is allowed."""


class OutOfRange(Rejected):
    """No size satisfies the requested range."""


class NotFound(Rejected):
    """The volume, snapshot, node or path does not exist."""


class PoolMissing(NotFound):
    """The cluster has no such pool."""


class Conflict(Rejected):
    """The name or path is taken by a request that differs; the message says in what."""


class InUse(Rejected):
    """The object is not in a state that allows this: published, watched by a client, not staged."""


class NoSpace(Rejected):
    """A pool is full, at its quota, or a limit is reached."""


class Unauthenticated(Rejected):
    """The cluster does not accept these credentials."""


class AccessDenied(Rejected):
    """The user is known but lacks a capability for this."""


class NotOffered(Rejected):
    """This instance does not offer the RPC."""


class NotReady(Rejected):
    """No configured cluster can be reached; the message says why."""


class Unfinished(DriverError):
    """Call again: something may remain, and the journal knows it."""


class Busy(Unfinished):
    """Another call or process works on the same object, or too many calls run."""


class BadPageToken(Unfinished):
    """The token of a listing is none of this driver's, or its place is gone: begin the listing again."""


class StillWorking(Unfinished):
    """The work goes on behind the call, whose time is over."""


class ClusterUnavailable(Unfinished):
    """The cluster cannot be reached, or this client was cut off from it."""


class ClusterTimeout(ClusterUnavailable):
    """The cluster did not answer in time. Whether a write was done is not known."""


class KmsUnavailable(Unfinished):
    """Who keeps keys of volumes cannot be asked, or does not do what was asked; the message says why."""


class DeviceTrouble(Unfinished):
    """A device, daemon or mount of this node did not do what was asked; asking again may help."""


class Inconsistent(DriverError):
    """A state that no crash of the driver explains. Nothing was touched; a person is needed."""


class KeyMissing(Inconsistent):
    """No key is kept for the volume."""
