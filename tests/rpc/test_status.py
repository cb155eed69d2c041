"""The error table covers every error and keeps what its two families promise."""

import inspect

import grpc
import pytest

from csi_driver import errors
from csi_driver.rpc import status

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.DriverError)]
IN_PROGRESS = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED,
}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_a_row_that_keeps_its_familys_promise(kind: type[errors.DriverError]) -> None:
    """Each class stands in the table, and its code says "in progress" exactly when the call is to be repeated."""
    assert kind in status.CODES
    assert (status.code_of(kind("reason")) in IN_PROGRESS) == issubclass(kind, errors.Unfinished)


def test_the_table_knows_no_class_that_does_not_exist() -> None:
    """Each row is of a class that errors.py defines today, but the one that the generated servicers raise."""
    assert set(status.CODES) - set(CLASSES) == {NotImplementedError}


def test_a_subclass_without_a_row_takes_the_code_of_its_nearest_base() -> None:
    """The most specific class that has a row decides."""

    class PoolFull(errors.NoSpace):
        pass

    assert status.code_of(PoolFull("full")) is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), OSError(5, "x"), SystemExit(1)])
def test_an_unknown_error_is_internal(error: BaseException) -> None:
    """What nobody expected needs a person."""
    assert status.code_of(error) is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.OutOfRange, grpc.StatusCode.OUT_OF_RANGE),
        (errors.NotFound, grpc.StatusCode.NOT_FOUND),
        (errors.Conflict, grpc.StatusCode.ALREADY_EXISTS),
        (errors.InUse, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.NoSpace, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
        (errors.AccessDenied, grpc.StatusCode.PERMISSION_DENIED),
        (errors.NotOffered, grpc.StatusCode.UNIMPLEMENTED),
        (errors.Busy, grpc.StatusCode.ABORTED),
        (errors.ClusterTimeout, grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_a_class_has_the_code_that_the_specification_names(
    kind: type[errors.DriverError], code: grpc.StatusCode
) -> None:
    """The rows that clients act on, as the specification's error tables give them."""
    assert status.code_of(kind("reason")) is code
