"""A file is replaced as a whole, or stays as it was."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replace_file(path: str | os.PathLike[str], *, durable: bool = True) -> Generator[IO[bytes]]:
    """Open a file for writing that takes the place of `path` when the block ends well.

    It is written beside `path`, reaches the disk, and is renamed in one step: at every moment, also when the machine
    stops, `path` holds the old bytes or the new ones. When the block raises, nothing remains of the new file. A
    symbolic link stays one: the file that it points to is replaced.

    Args:
        path: the file.
        durable: wait until the disk has it. Without, a power failure may leave a damaged file; a killed process not.

    Raises:
        OSError: as `open`, `write` and `rename` do.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        with _open(temporary, path) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:  # a KeyboardInterrupt too must leave no half file behind
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        _sync_folder(target.parent)


def _open(temporary: Path, path: str | os.PathLike[str]) -> IO[bytes]:
    """The new file; where it cannot be made, the error names the file that was asked for."""
    try:
        return temporary.open("xb")
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def _sync_folder(folder: Path) -> None:
    """Make the rename itself reach the disk, where the system lets us."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems cannot; the file itself is safe
        pass
    finally:
        os.close(descriptor)
