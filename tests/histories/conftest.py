"""The pool as the tests of the controller look at it."""

from tests.controller.conftest import pool

__all__ = ["pool"]
