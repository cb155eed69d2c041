"""Programs of this machine, run from argument lists: the only `import subprocess`, and never a shell.

Every `run` is bounded in time; what is meant to go on is started with `spawn`. A program that does not end is killed with
its children; one that cannot be killed (a process in uninterruptible sleep on a dead device) is left behind, and the call
still returns.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from csi_driver.errors import DeviceTrouble

log = structlog.get_logger(__name__)

_KILL_GRACE_S = 2.0

_left_behind: "list[subprocess.Popen[str]]" = []
"""Killed and not ended yet: asked for their end whenever another program is run, so that none stays a zombie."""


@dataclass(frozen=True)
class Completed:
    """What a program left: its exit code and its output as text."""

    code: int
    stdout: str
    stderr: str


class CommandError(DeviceTrouble):
    """A program could not be run, failed, or did not end in time."""


class CommandMissing(CommandError):
    """The program is not installed."""


class CommandTimeout(CommandError):
    """The program did not end in time and was killed."""


class CommandFailed(CommandError):
    """The program ended with an exit code that the caller did not expect."""

    def __init__(self, argv: Sequence[str], result: Completed) -> None:
        said = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()
        super().__init__(f"{argv[0]} ended with code {result.code}: {' / '.join(said[-4:])}")
        self.result = result


def run(  # noqa: PLR0913 - the options of one call, all by keyword
    argv: Sequence[str],
    *,
    timeout_s: float,
    stdin: str | None = None,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    ok: Sequence[int] | None = (0,),
) -> Completed:
    """Run to the end. `env` is added to the own environment; `ok` are the codes expected (None: any).

    Raises CommandMissing, CommandTimeout, CommandFailed.
    """
    _left_behind[:] = [one for one in _left_behind if one.poll() is None]
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=pass_fds,
            env={**os.environ, "LC_ALL": "C", **(env or {})},
            start_new_session=True,
        )
    except FileNotFoundError as missing:
        raise CommandMissing(f"program {argv[0]!r} is not installed") from missing
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired as late:
        _kill(process)
        raise CommandTimeout(f"{argv[0]} did not end within {timeout_s:g} s: {' '.join(argv)}") from late
    result = Completed(process.returncode, stdout, stderr)
    log.debug("command", argv=" ".join(argv), code=result.code)
    if ok is not None and result.code not in ok:
        raise CommandFailed(argv, result)
    return result


class Background:
    """A program that runs on its own; it outlives this process unless it is told to end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()


def spawn(argv: Sequence[str], *, output: Path, env: Mapping[str, str] | None = None) -> Background:
    """Start a program in a session of its own, its output appended to a file. Raises CommandMissing."""
    with output.open("ab") as sink:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        except FileNotFoundError as missing:
            raise CommandMissing(f"program {argv[0]!r} is not installed") from missing
    return Background(process)


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=_KILL_GRACE_S)
    except ProcessLookupError:
        process.poll()
    except subprocess.TimeoutExpired:
        log.warning("a killed program did not end; it is left behind", pid=process.pid)
        for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
            with contextlib.suppress(OSError):  # what its input still held
                stream.close()
        _left_behind.append(process)
