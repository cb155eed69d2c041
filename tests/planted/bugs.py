"""The patches, and trying one on a copy of the tree."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (0, 1_000_000)
WITHIN = 10_000
_COPIED = ("csi_driver", "tests", "pyproject.toml")


@dataclass(frozen=True)
class Bug:
    """One patch. says: what it breaks."""

    name: str
    patch: Path

    @property
    def says(self) -> str:
        return self.patch.read_text().partition("\n\n--- ")[0].replace("\n", " ")


@dataclass(frozen=True)
class Found:
    """After how many schedules from each seed, None where it was not, and by what the first time."""

    bug: Bug
    after: tuple[int | None, ...]
    by: str

    @property
    def is_found(self) -> bool:
        return None not in self.after


def bugs() -> list[Bug]:
    return [Bug(patch.stem, patch) for patch in sorted(Path(__file__).parent.glob("*.patch"))]


class DoesNotApply(Exception):
    """The code has changed under a patch."""


def plant(bug: Bug, copy: Path) -> None:
    """The tree with the bug in it. Raises DoesNotApply."""
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    # In a repository, git would look for the files from its top, and pass over those that it does not find.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(copy.parent)}
    command = ["git", "apply", "-C1", "--recount", str(bug.patch)]
    applied = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if applied.returncode or not _differ(ROOT / "csi_driver", copy / "csi_driver"):
        raise DoesNotApply(f"{bug.patch.name} no longer applies: {applied.stderr}")


def _differ(one: Path, other: Path) -> bool:
    return any(file.read_bytes() != (other / file.relative_to(one)).read_bytes() for file in one.rglob("*.py"))


def try_bug(bug: Bug, copy: Path) -> Found:
    """Raises DoesNotApply, CalledProcessError where the copy does not even run."""
    plant(bug, copy)
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONHASHSEED": "0"}
    answers = []
    for seed in SEEDS:
        run = subprocess.run(
            [sys.executable, "-m", "tests.planted.finding", str(seed), str(WITHIN)],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        answers.append(json.loads(run.stdout.splitlines()[-1]))
    return Found(bug, tuple(one["found_after"] for one in answers), answers[0]["by"])
