"""Directories and files on which volumes are mounted: made and removed without ever leaving the path that was asked for.

A symbolic link anywhere in a path is refused: what lies behind it is not what the orchestrator asked for.
"""

import errno
import stat
from pathlib import Path

from csi_driver.errors import Conflict, DeviceTrouble, InUse, InvalidRequest


def refuse_links(path: Path) -> None:
    """Raises InUse when a part of the path is a symbolic link. Does not look below a mount: only the parts' own entries."""
    for part in [*reversed(path.parents), path]:
        try:
            status = part.lstat()
        except OSError:  # nothing there, so nothing below either; or a dead mount, which is no link
            return
        if stat.S_ISLNK(status.st_mode):
            raise InUse(f"{path} is not used: {part} is a symbolic link")


def make_directory(path: Path) -> None:
    """With its parents; OK when it is there.

    Raises InvalidRequest when something on the way is no directory, DeviceTrouble when the file system refuses it.
    """
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as other:
        raise InvalidRequest(f"{path} is not a directory, or something on the way to it is not") from other
    except OSError as error:
        raise DeviceTrouble(f"cannot make {path}: {error.strerror}") from error


def make_target(path: Path, *, is_file: bool) -> bool:
    """A directory, or an empty file for a block device; whether it was made just now.

    Raises Conflict when something else is there, InvalidRequest when its parent is not, DeviceTrouble when the file
    system refuses it.
    """
    try:
        if is_file:
            path.touch(mode=0o600, exist_ok=False)
        else:
            path.mkdir(mode=0o750)
    except FileExistsError:
        mode = path.lstat().st_mode
        fits = stat.S_ISREG(mode) and not path.lstat().st_size if is_file else stat.S_ISDIR(mode)
        if not fits:
            wanted = "an empty file" if is_file else "a directory"
            raise Conflict(f"{path} exists and is not {wanted}") from None
        return False
    except (FileNotFoundError, NotADirectoryError) as missing:
        raise InvalidRequest(f"{path.parent} is not a directory: the parent must be there") from missing
    except OSError as error:
        raise DeviceTrouble(f"cannot make {path}: {error.strerror}") from error
    return True


def remove_target(path: Path) -> None:
    """After it was unmounted; OK when it is not there. Never removes content. Raises InUse when there is some."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            path.rmdir()
        elif stat.S_ISREG(mode) and not path.lstat().st_size:
            path.unlink()
        else:
            raise InUse(f"{path} is not a target of a mount: it is left as it is")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise InUse(f"{path} is not empty below its mount: it is left as it is") from error
        raise DeviceTrouble(f"cannot remove {path}: {error.strerror}") from error
