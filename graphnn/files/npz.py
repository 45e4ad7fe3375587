"""Arrays by name in an npz file: written all or not at all, read as data and nothing else.

The file is what `numpy.load` reads. Equal arrays in equal order give equal bytes: members are stored uncompressed, in C
order, little-endian, with a fixed date.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from graphnn.atomic import replace_file
from graphnn.errors import FileFormatError, OptionError, ParameterError
from graphnn.ir.dimension import Shape

NUMERIC = "biufc"  # the dtype kinds that are stored: bool, integers, floats, complex
MAX_NAME = 1000  # characters
DEFLATE_RATIO = 1032  # the most that deflate can shrink data, by its design
FREE_BYTES = 2**28  # a file may always unpack to this much
DESCRIPTOR_BYTES = 24  # some writers put a copy of the sizes behind a member
PIECE_BYTES = 2**20
LISTED = 20  # entries of each kind that an error lists
_DAMAGE = (  # what zipfile and numpy raise on bytes that are not as they should be
    zipfile.BadZipFile, zlib.error, struct.error, ValueError, EOFError, RuntimeError, ArithmeticError, LookupError,
)  # fmt: skip


def npz_path(path: str | os.PathLike[str]) -> Path:
    """`path` with the suffix .npz: "m" and "m.npz" are one file."""
    text = os.fspath(path)
    return Path(text if text.endswith(".npz") else f"{text}.npz")


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Write `arrays` to `path` in their order; a failure of any kind leaves the previous file as it was.

    Args:
        path: "m" and "m.npz" mean the same file.
        arrays: bool, integers, floats or complex, any shape and layout; names such as "conv/W".

    Raises:
        OptionError: a name cannot be one of a file, or an array holds something else than numbers.
        OSError: the disk is full, the folder is missing...
    """
    checked = {_check_name(name): _check_array(name, array) for name, array in arrays.items()}
    with replace_file(npz_path(path)) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in checked.items():
            _write(archive, name, array)


def _check_name(name: str) -> str:
    if fault := _name_fault(name):
        raise OptionError(f"the name {fault}", where=repr(name)[:80], expected='names such as "conv/W"')
    return name


def _name_fault(name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        return f"is no text of 1 to {MAX_NAME} characters"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "has an empty part, '.' or '..' between slashes"
    if any(character in "\\:" or not character.isprintable() for character in name):
        return "has a backslash, a colon or a character that cannot be printed"
    return ""


def _check_array(name: str, array: Any) -> np.ndarray:
    if not isinstance(array, np.ndarray | np.generic) or array.dtype.kind not in NUMERIC:
        got = getattr(array, "dtype", type(array).__name__)
        raise OptionError(
            "this is no array of numbers", where=name, expected="a numpy array of a numeric dtype", got=got
        )
    return np.asarray(array)


def _write(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    array = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, 0o644 << 16  # or the bytes would depend on the machine
    with archive.open(info, "w", force_zip64=array.nbytes >= 2**31) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


# -- reading ----------------------------------------------------------------------------------------------------------


def load_arrays(path: str | os.PathLike[str], limit_bytes: int | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz file in its order, native and in C order. Runs nothing that the file holds.

    Args:
        path: "m" and "m.npz" mean the same file.
        limit_bytes: the most that the arrays may take; by default 8 times the file, but 256 MiB at least.

    Raises:
        FileFormatError: no npz file, damaged, holds more than numbers, or unpacks to more than the limit; names file
            and member.
        OSError: the file is missing or cannot be read.
    """
    file_path = npz_path(path)
    if not file_path.exists() and Path(path).exists():  # then another file is meant, and shall be named in the error
        file_path = Path(path)
    with file_path.open("rb") as file:
        if file.read(4) not in (b"PK\x03\x04", b"PK\x05\x06"):
            raise FileFormatError(
                "this is no npz file", where=str(file_path), expected="a file of save_arrays or numpy.savez"
            )
        try:
            with zipfile.ZipFile(file) as archive:
                _check_layout(file, archive, str(file_path))
                return _read_all(archive, str(file_path), os.fstat(file.fileno()).st_size, limit_bytes)
        except FileFormatError:
            raise
        except _DAMAGE as error:
            raise FileFormatError("the file is damaged", where=str(file_path), got=str(error)) from error


def _check_layout(file: IO[bytes], archive: zipfile.ZipFile, path: str) -> None:
    """Members fill the file from its start to the directory: none overlaps, and none is missing from the directory."""
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        room = DESCRIPTOR_BYTES if end else 0
        if not end <= info.header_offset <= end + room:
            raise FileFormatError("members overlap, or something lies between them", where=f"{path}, {info.filename}")
        file.seek(info.header_offset + 26)
        end = info.header_offset + 30 + sum(struct.unpack("<HH", file.read(4))) + info.compress_size
    if not end <= archive.start_dir <= end + (DESCRIPTOR_BYTES if end else 0):
        raise FileFormatError("the directory lacks a member", where=path)


def _read_all(archive: zipfile.ZipFile, path: str, file_bytes: int, limit_bytes: int | None) -> dict[str, np.ndarray]:
    members = archive.infolist()
    names = [_member_name(path, info) for info in members]
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise FileFormatError("a member stands twice", where=path, expected="each name once", got=twice)
    _check_sizes(path, members, file_bytes, limit_bytes)
    return {name: _read(archive, info, f"{path}, {name}") for name, info in zip(names, members, strict=True)}


def _member_name(path: str, info: zipfile.ZipInfo) -> str:
    name = info.orig_filename.removesuffix(".npy")  # what zipfile makes of it may look harmless
    if fault := _name_fault(name) or ("" if info.orig_filename.endswith(".npy") else "does not end in .npy"):
        where = f"{path}, {info.orig_filename[:80]!r}"
        raise FileFormatError(f"the member's name {fault}", where=where, expected="members such as conv/W.npy")
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FileFormatError("the member is encrypted or packed in another way", where=f"{path}, {name}")
    return name


def _check_sizes(path: str, members: list[zipfile.ZipInfo], file_bytes: int, limit_bytes: int | None) -> None:
    """Before anything is allocated: what members declare must be possible, and below the limit."""
    limit = max(8 * file_bytes, FREE_BYTES) if limit_bytes is None else limit_bytes
    total = sum(info.file_size for info in members)
    if total > limit:
        raise FileFormatError(
            "the arrays would take more memory than allowed", where=path, expected=f"at most {limit:,} bytes",
            got=f"{total:,} bytes", fix="if you trust the file, give load a larger limit_bytes",
        )  # fmt: skip
    for info in members:
        stored = info.compress_type == zipfile.ZIP_STORED
        most = info.compress_size if stored else DEFLATE_RATIO * (info.compress_size + 1)
        if info.compress_size > file_bytes or info.file_size > most:
            where, expected = f"{path}, {info.filename}", f"at most {most:,} bytes"
            raise FileFormatError(
                "the declared size is impossible", where=where, expected=expected, got=f"{info.file_size:,}"
            )


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> np.ndarray:
    try:
        with archive.open(info) as member:
            return _read_array(member, info.file_size, where)
    except FileFormatError:
        raise
    except _DAMAGE as error:
        raise FileFormatError("the array is damaged", where=where, got=str(error)) from error


def _read_array(member: IO[bytes], member_bytes: int, where: str) -> np.ndarray:
    shape, is_fortran, dtype = _read_header(member)
    if dtype.kind not in NUMERIC:
        raise FileFormatError("the member holds no numbers", where=where, expected="a numeric dtype", got=dtype)
    count = 1
    for size in shape:  # Python integers: they do not overflow
        count *= size
    left = member_bytes - member.tell()
    if min(shape, default=0) < 0 or count * dtype.itemsize != left:
        raise FileFormatError(
            "shape and size disagree", where=where, expected=f"{left:,} bytes", got=f"{dtype}{list(shape)}"
        )
    array = np.empty(count, dtype)
    _fill(array.view("uint8"), member, where)
    array = array.reshape(shape[::-1]).T if is_fortran else array.reshape(shape)
    return np.asarray(array, dtype=dtype.newbyteorder("="), order="C")


def _fill(target: np.ndarray, member: IO[bytes], where: str) -> None:
    """Read as many bytes as `target` has, in pieces, so that nothing is in memory twice; zipfile checks the sum."""
    for start in range(0, target.size, PIECE_BYTES):
        piece = target[start : start + PIECE_BYTES]
        data = member.read(piece.size)
        if len(data) < piece.size:
            raise FileFormatError(
                "the member is cut off", where=where, expected=f"{target.size:,} bytes", got=start + len(data)
            )
        piece[...] = np.frombuffer(data, "uint8")


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(member)
    raise ValueError(f"npy version {version}")


# -- comparing with a model -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MatchReport:
    """What of a file fits a model.

    Args:
        matched: names with equal shape and dtype.
        missing: names that the model has and the file lacks.
        unexpected: names that the file has and the model lacks.
        mismatched: name -> (expected, got), such as ("float32[3, 4]", "float32[4, 3]").
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: Mapping[str, tuple[str, str]]

    @property
    def is_exact(self) -> bool:
        """True when everything matched."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        differing = [f"{name} is {got}, not {expected}" for name, (expected, got) in self.mismatched.items()]
        parts = (("missing", self.missing), ("unexpected", self.unexpected), ("shape or dtype", differing))
        texts = [f"{label}: {_listed(entries)}" for label, entries in parts if entries]
        return "\n    ".join([f"{len(self.matched)} matched", *texts])


def _listed(entries: Any) -> str:
    rest = len(entries) - LISTED
    return ", ".join(list(entries)[:LISTED]) + (f" and {rest:,} more" if rest > 0 else "")


def match(
    expected: Mapping[str, tuple[Shape, str]], found: Mapping[str, np.ndarray], strict: bool = True, where: str = ""
) -> MatchReport:
    """Compare what a model needs with what a file has; nothing is assigned here.

    Args:
        expected: name -> (shape, dtype).
        found: arrays by name.
        strict: raise unless everything matches; otherwise only report.
        where: file name for the error.

    Raises:
        ParameterError: strict, and something differs; one error lists it all.
    """
    both = [name for name in expected if name in found]
    texts = {name: (_spec_text(*expected[name]), _spec_text(found[name].shape, found[name].dtype)) for name in both}
    report = MatchReport(
        matched=tuple(name for name in both if texts[name][0] == texts[name][1]),
        missing=tuple(name for name in expected if name not in found),
        unexpected=tuple(name for name in found if name not in expected),
        mismatched={name: pair for name, pair in texts.items() if pair[0] != pair[1]},
    )
    if strict and not report.is_exact:
        raise ParameterError(
            "the arrays do not fit the model", where=where, expected=f"the {len(expected):,} arrays of the model",
            got=report, fix="load them with strict=False to take over what matches",
        )  # fmt: skip
    return report


def _spec_text(shape: Shape, dtype: object) -> str:
    return f"{np.dtype(dtype).name}[{', '.join(map(str, shape))}]"  # type: ignore[arg-type, call-overload]
