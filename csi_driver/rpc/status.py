"""The one error table: which status code tells a client what an error left behind.

The sidecars take every code but CANCELLED, DEADLINE_EXCEEDED, UNAVAILABLE and ABORTED as "finished, nothing is in
progress". So a `Rejected` never has one of these four, and an `Unfinished` always has. What the table does not know is
INTERNAL.
"""

import grpc

from csi_driver import errors

CODES: dict[type[BaseException], grpc.StatusCode] = {
    # final: the call left nothing behind
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.PoolMissing: grpc.StatusCode.NOT_FOUND,
    errors.Conflict: grpc.StatusCode.ALREADY_EXISTS,
    errors.InUse: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoSpace: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.AccessDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotReady: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotOffered: grpc.StatusCode.UNIMPLEMENTED,
    errors.Rejected: grpc.StatusCode.FAILED_PRECONDITION,
    # what the generated servicers raise for an RPC that is not offered
    NotImplementedError: grpc.StatusCode.UNIMPLEMENTED,
    # call again: something may remain
    errors.Busy: grpc.StatusCode.ABORTED,
    errors.BadPageToken: grpc.StatusCode.ABORTED,
    errors.StillWorking: grpc.StatusCode.ABORTED,
    errors.ClusterUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.ClusterTimeout: grpc.StatusCode.UNAVAILABLE,
    errors.KmsUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeviceTrouble: grpc.StatusCode.UNAVAILABLE,
    errors.Unfinished: grpc.StatusCode.ABORTED,
    # a person is needed
    errors.Inconsistent: grpc.StatusCode.INTERNAL,
    errors.KeyMissing: grpc.StatusCode.INTERNAL,
    errors.DriverError: grpc.StatusCode.INTERNAL,
}


def code_of(error: BaseException) -> grpc.StatusCode:
    """The code of the error's class, or of its nearest base class that the table knows."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), grpc.StatusCode.INTERNAL)
