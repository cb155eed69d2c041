"""Where Ceph's programs run: on this machine as they are, or inside another release's root directory."""

from collections.abc import Sequence
from dataclasses import dataclass

from csi_driver.dev.errors import DevError
from csi_driver.host.commands import Completed, run


@dataclass(frozen=True)
class Programs:
    """Runs programs behind a prefix; an empty one means this machine's own."""

    prefix: tuple[str, ...] = ()

    def run(
        self, *argv: str, timeout_s: float = 60, stdin: str | None = None, ok: Sequence[int] | None = (0,)
    ) -> Completed:
        return run((*self.prefix, *argv), timeout_s=timeout_s, stdin=stdin, ok=ok)

    def ceph(self, conf: str, commands: Sequence[str], timeout_s: float = 60) -> str:
        """Run commands of `ceph` in one start of it, which costs more than all of them. What they print.

        The program reports a command that failed on stderr alone, and goes on.
        """
        result = self.run(
            "ceph", "-c", conf, "--connect-timeout", "30", timeout_s=timeout_s, stdin="\n".join(commands) + "\n"
        )
        failed = [line for line in result.stderr.splitlines() if line.startswith(("Error", "Invalid command"))]
        if failed:
            raise DevError("; ".join(failed))
        return result.stdout
