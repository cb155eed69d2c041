"""The OSD of a development Ceph, stopped and let go on."""

from contextlib import AbstractContextManager

from csi_driver.dev.layout import DevCeph
from tests.stopping import stopped


def osd_pid(ceph: DevCeph) -> int:
    return int((ceph.directory / "run" / "osd.0.pid").read_text())


def stopped_osd(ceph: DevCeph) -> AbstractContextManager[None]:
    return stopped(osd_pid(ceph))
