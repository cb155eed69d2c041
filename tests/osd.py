"""The OSD of a development Ceph, stopped and let go on."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from csi_driver.dev.layout import DevCeph


def osd_pid(ceph: DevCeph) -> int:
    return int((ceph.directory / "run" / "osd.0.pid").read_text())


@contextmanager
def stopped_osd(ceph: DevCeph) -> Iterator[None]:
    os.kill(osd_pid(ceph), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(osd_pid(ceph), signal.SIGCONT)
