"""A process that connects with each of KEYS (separated by `|`), for what it prints: its argument is a clusters file."""

import os
import sys
from pathlib import Path

from csi_driver import logs
from csi_driver.addresses import Credentials
from csi_driver.ceph.cluster import RadosClusters, Timeouts
from csi_driver.config import read_clusters
from csi_driver.errors import DriverError


def main() -> None:
    logs.set_up("debug", "text")
    clusters = RadosClusters(lambda: read_clusters(Path(sys.argv[1])), Timeouts())
    for key in os.environ["KEYS"].split("|"):
        try:
            with clusters.connect("dev", Credentials("provisioner", key)):
                sys.stdout.write("connected\n")
        except DriverError as error:  # of a Ceph 20.2 a wrong key often gets no answer
            sys.stdout.write(f"refused {error} {error.__cause__!r}\n")


if __name__ == "__main__":
    main()
