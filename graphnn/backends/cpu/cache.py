"""Machine code on disk, so that the next process need not compile it again."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from graphnn.atomic import replace_file

VARIABLE = "GRAPHNN_CACHE_DIR"
LIMIT = 256 << 20  # bytes
MAGIC = b"graphnn object 1\n"
CHECKSUM = 32  # bytes
SUFFIX = ".object"
NOTE = "note-"  # begins the keys of what is no machine code
UNFINISHED = ".tmp"  # what replace_file leaves behind when it is killed
REFRESH = 3600.0  # seconds after which a use is noted again
KEPT = 0.75  # share of the limit that a clean-up leaves, so that it need not come back at once
ROUNDS = 16  # a clean-up comes after each of so many parts of the limit that are written


@dataclass(frozen=True)
class Status:
    """What a cache holds, and what is wrong with it.

    Args:
        folder: where it lies; None if there is no place for it.
        entries: number of kernels.
        nbytes: their size.
        fault: why it is not read or written, "" if all is well.
    """

    folder: Path | None
    entries: int
    nbytes: int
    fault: str


class Cache:
    """A folder of machine code; without a usable folder nothing is found and nothing is kept.

    Many processes may use it at once. Entries are written whole or not at all and carry a checksum: what is damaged
    counts as missing. Beyond the limit those that were not used for the longest time go. The code in it is run, so a
    folder that other users could write to is not used.

    Args:
        folder: where to keep it; `default_folder()` if not given.
        limit: bytes.
    """

    def __init__(self, folder: Path | None = None, limit: int = LIMIT):
        self.limit = limit
        self._folder, self._fault = _usable(folder)
        self._unwritable = ""
        self._until_clean_up = 0  # bytes that may be written before the next one: the first write is followed by one

    def load(self, key: str) -> bytes | None:
        """The entry, or None if it is not there or damaged."""
        if self._folder is None:
            return None
        path = self._folder / (key + SUFFIX)
        try:
            with path.open("rb") as file:
                content = file.read()
                last_use = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        if time.time() - last_use > REFRESH:
            _attempt(lambda: os.utime(path))
        return _unpacked(content)

    def store(self, key: str, data: bytes) -> None:
        """Keep the entry, or put up with a disk that does not take it."""
        if self._folder is None or self._unwritable:
            return
        path, content = self._folder / (key + SUFFIX), _packed(data)
        try:
            # Need not survive a power failure: the checksum tells, and compiling costs less than waiting for the disk.
            with replace_file(path, durable=False) as file:
                file.write(content)
        except OSError as error:
            self._unwritable = f"not written: {error}"
            return
        self._until_clean_up -= len(content)
        if self._until_clean_up < 0:
            self._until_clean_up = self.limit // ROUNDS
            self._clean_up(self._folder)

    def status(self) -> Status:
        """For a report on this machine."""
        files = list(_files(self._folder)) if self._folder else []
        sizes = [status.st_size for path, status in files if path.suffix == SUFFIX]
        kernels = sum(path.suffix == SUFFIX and not path.name.startswith(NOTE) for path, _ in files)
        return Status(self._folder, kernels, sum(sizes), self._fault or self._unwritable)

    def _clean_up(self, folder: Path) -> None:
        """Remove the least recently used entries beyond the limit, and what killed writers have left."""
        entries, now = [], time.time()
        for path, status in _files(folder):
            if path.suffix == SUFFIX:
                entries.append((status.st_mtime, path, status.st_size))
            elif path.suffix == UNFINISHED and now - status.st_mtime > REFRESH:
                _attempt(path.unlink)
        nbytes = sum(size for _, _, size in entries)
        if nbytes <= self.limit:
            return
        for _, path, size in sorted(entries):
            _attempt(path.unlink)
            nbytes -= size
            if nbytes <= self.limit * KEPT:
                return


def default_folder(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Where caches of a user belong: $GRAPHNN_CACHE_DIR, or the place that the platform has for them.

    Raises:
        RuntimeError: if the user has no home.
    """
    if given := environment.get(VARIABLE):
        return Path(given).expanduser()
    if platform == "win32":
        given = environment.get("LOCALAPPDATA")
        return (Path(given) if given else Path.home() / "AppData/Local") / "graphnn/Cache"
    if platform == "darwin":
        return Path.home() / "Library/Caches/graphnn"
    given = environment.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "graphnn"


def _usable(folder: Path | None) -> tuple[Path | None, str]:
    """The folder, made if need be, or why there is none."""
    try:
        folder = (folder or default_folder()) / "kernels"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
    except (OSError, RuntimeError) as error:
        return None, f"no folder: {error}"
    if os.name != "nt" and status.st_uid != os.geteuid():
        return None, f"not used: {folder} belongs to another user"
    if os.name != "nt" and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return None, f"not used: other users may write to {folder}"
    return folder, ""


def _packed(data: bytes) -> bytes:
    return MAGIC + blake2b(data, digest_size=CHECKSUM).digest() + data


def _unpacked(content: bytes) -> bytes | None:
    start = len(MAGIC) + CHECKSUM
    data = content[start:]
    return data if content[:start] == _packed(data)[:start] else None


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """What lies in the folder; what vanishes meanwhile is passed over."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    yield Path(entry.path), entry.stat(follow_symlinks=False)
                except OSError:
                    continue
    except OSError:
        return


def _attempt(action: Callable[[], None]) -> None:
    """Do it; another process may have been first, or the folder may be read-only."""
    try:
        action()
    except OSError:
        return
