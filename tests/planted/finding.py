"""Run in the copy: schedules until one breaks a rule. Prints what was found, as JSON.

python -m tests.planted.finding SEED MOST
"""

import json
import sys

from csi_driver import logs
from tests.schedules.taking import take


def main() -> None:
    seed, most = int(sys.argv[1]), int(sys.argv[2])
    logs.set_up("critical", "text")
    taken = take(seed, most, clones_format_2=True, most=most)
    print(  # noqa: T201 - the answer
        json.dumps(
            {
                "found_after": taken.taken if taken.failure is not None else None,
                "by": f"{type(taken.failure).__name__}: {taken.failure}" if taken.failure else "",
                "seconds": round(taken.seconds, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
