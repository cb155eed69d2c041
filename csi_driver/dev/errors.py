"""What can go wrong with a development cluster: the caller's mistake, or a step that failed."""

from csi_driver.errors import DriverError


class DevError(DriverError):
    """A step failed; the message names the log file where there is one."""


class DevMisuse(DevError):
    """The request itself is wrong; the message says what to do instead."""
