"""kubectl as the administrator: objects applied, waited for and deleted."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

WAIT_S = 180.0


class Kubectl:
    """Raises AssertionError with what kubectl said."""

    def __init__(self, program: Path, config: Path) -> None:
        self._command = (str(program), f"--kubeconfig={config}")

    def run(self, *arguments: str, given: str = "") -> str:
        ended = subprocess.run(
            [*self._command, *arguments], input=given, capture_output=True, text=True, check=False, timeout=WAIT_S + 30
        )
        assert ended.returncode == 0, f"kubectl {' '.join(arguments)}: {ended.stderr}"
        return ended.stdout

    def apply(self, *objects: Mapping[str, Any]) -> None:
        self.apply_text("---\n".join(yaml.safe_dump(dict(one)) for one in objects))

    def apply_text(self, text: str) -> None:
        self.run("apply", "--server-side", "-f", "-", given=text)

    def get(self, kind: str, name: str = "", *flags: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("get", kind, *([name] if name else []), "-o", "json", *flags))
        return found

    def names(self, kind: str, *flags: str) -> list[str]:
        return [one["metadata"]["name"] for one in self.get(kind, "", *flags)["items"]]

    def await_condition(self, subject: str, condition: str, *flags: str) -> None:
        self.run("wait", f"--for={condition}", subject, f"--timeout={WAIT_S:.0f}s", *flags)

    def delete(self, *subjects: str) -> None:
        self.run("delete", *subjects, "--wait", f"--timeout={WAIT_S:.0f}s")

    def await_that(self, what: str, is_so: Callable[[], bool], seconds: float = WAIT_S) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
            time.sleep(0.3)
