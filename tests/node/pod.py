"""`python -m tests.node.pod CGROUPS SETTING METHOD REQUEST`: a call from within cgroups, as a container's process makes it.

CGROUPS are directories joined by colons. Prints `done` after the call, and then waits for its end.
"""

import os
import signal
import sys
from pathlib import Path

from tests.node.one_call import main

if __name__ == "__main__":
    for cgroup in sys.argv.pop(1).split(":"):
        (Path(cgroup) / "cgroup.procs").write_text(f"{os.getpid()}\n")
    main()
    sys.stdout.write("done\n")
    sys.stdout.flush()
    signal.pause()
