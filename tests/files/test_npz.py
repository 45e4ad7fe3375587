"""Arrays in files: exact, or refused; never run, never half written."""

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphnn.errors import FileFormatError, OptionError, ParameterError
from graphnn.files.npz import load_arrays, match, npz_path, save_arrays

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.npz"


def same_arrays(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == np.asarray(array).dtype.newbyteorder("=")
        assert found[name].shape == np.shape(array)
        assert found[name].tobytes() == np.ascontiguousarray(array).astype(found[name].dtype).tobytes()  # NaN too
        assert found[name].flags.c_contiguous
        assert found[name].flags.writeable


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)


# -- there and back ---------------------------------------------------------------------------------------------------

DTYPES = hnp.boolean_dtypes() | hnp.integer_dtypes(endianness="?") | hnp.unsigned_integer_dtypes(endianness="?")
DTYPES |= hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)) | hnp.complex_number_dtypes(
    endianness="?", sizes=(64,)
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))


KINDS = ("plain", "fortran", "reversed", "strided", "broadcast", "transposed")


def views(array, kind):
    if kind == "fortran":
        return np.asfortranarray(array)
    if kind == "reversed":
        return array[::-1] if array.ndim else array
    if kind == "strided":
        return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
    if kind == "broadcast":
        return np.broadcast_to(array, (2, *array.shape))
    return array.T if kind == "transposed" else array


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ARRAYS, st.sampled_from(KINDS)), max_size=4))
def test_arrays_of_any_kind_come_back_equal(path, parts):
    arrays = {f"node_{index}/W": views(array, kind) for index, (array, kind) in enumerate(parts)}
    before = {name: array.copy() for name, array in arrays.items()}
    save_arrays(path, arrays)
    same_arrays(load_arrays(path), before)
    with np.load(path) as file:  # numpy reads the same
        for name, array in before.items():
            assert file[name].tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()
    first = path.read_bytes()
    save_arrays(path, {name: array.astype(array.dtype.newbyteorder(">")) for name, array in before.items()})
    assert path.read_bytes() == first  # the same numbers in another layout: the same bytes


def test_bytes_depend_on_the_arrays_alone(path):
    save_arrays(path, {"conv/W": np.arange(6, dtype="float32").reshape(2, 3), "conv/b": np.zeros((), "int64")})
    assert hashlib.sha256(path.read_bytes()).hexdigest() == GOLDEN


GOLDEN = "9f4528966c5ec1b1715faed2e5f59249eae14a46a81a7a7cdb75173dcc2c25d9"


@pytest.mark.parametrize("compressed", [False, True])
def test_files_of_numpy_are_read(path, compressed):
    arrays = {"a": np.arange(1000.0).reshape(10, 100).T, "b/c": np.float32(2)}
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    same_arrays(load_arrays(path), arrays)


def test_no_arrays_are_a_file_too(path):
    save_arrays(path, {})
    assert load_arrays(path) == {}


def test_the_suffix_may_be_left_out(tmp_path):
    save_arrays(tmp_path / "m", {"a": np.ones(2)})
    assert os.listdir(tmp_path) == ["m.npz"]
    save_arrays(str(tmp_path / "m.npz"), {"a": np.ones(3)})
    assert os.listdir(tmp_path) == ["m.npz"]
    assert load_arrays(tmp_path / "m")["a"].shape == load_arrays(tmp_path / "m.npz")["a"].shape == (3,)
    assert npz_path("epoch.3").name == "epoch.3.npz"
    (tmp_path / "graph.json").write_text("{}", encoding="utf-8")
    with pytest.raises(FileFormatError, match=r"graph\.json: this is no npz file"):
        load_arrays(tmp_path / "graph.json")
    with pytest.raises(FileNotFoundError, match=r"other\.npz"):
        load_arrays(tmp_path / "other")


# -- failures while saving --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a", np.array([1, "x"], object), "no array of numbers"),
        ("a", np.array(["x"]), "no array of numbers"),
        ("a", np.zeros(2, "datetime64[s]"), "no array of numbers"),
        ("a", np.zeros(2, [("x", "f4")]), "no array of numbers"),
        ("a", [1, 2], "no array of numbers"),
        ("a", None, "no array of numbers"),
        ("../a", np.ones(1), "'..' between slashes"),
        ("/a", np.ones(1), "empty part"),
        ("", np.ones(1), "no text of 1 to 1000"),
        (3, np.ones(1), "no text of 1 to 1000"),
        ("a\\b", np.ones(1), "backslash"),
        ("a\0b", np.ones(1), "cannot be printed"),
        ("C:/a", np.ones(1), "colon"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_the_file_is_touched(path, name, value, message):
    save_arrays(path, {"old": np.ones(2)})
    before = path.read_bytes()
    with pytest.raises(OptionError, match=message) as caught:
        save_arrays(path, {"fine": np.ones(1), name: value})
    assert repr(name).strip("'") in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["m.npz"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_half_way_leaves_the_old_file(path, monkeypatch, error):
    save_arrays(path, {"old": np.ones(2)})
    before, write_array, calls = path.read_bytes(), np.lib.format.write_array, []

    def fail(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise error
        write_array(*arguments, **options)

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(type(error)):
        save_arrays(path, {"a": np.ones(1000), "b": np.ones(1000)})
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["m.npz"]


@pytest.mark.skipif(os.name == "nt", reason="no such limit there")
def test_a_disk_that_takes_no_more_leaves_the_old_file(path):
    save_arrays(path, {"old": np.ones(2)})
    before = path.read_bytes()
    program = """
import resource, sys, numpy as np
from graphnn.files.npz import save_arrays
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    save_arrays(sys.argv[1], {"a": np.ones(10_000)})
except OSError as error:
    print(error)
"""
    command, environment = [sys.executable, "-c", program, str(path)], {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "File too large" in result.stdout
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["m.npz"]


# -- files from strangers ---------------------------------------------------------------------------------------------


class Canary:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_object_arrays_are_refused_and_run_nothing(path):
    canary = path.parent / "canary"
    np.savez(path, fine=np.ones(2), bad=np.array([Canary(canary)], object))
    with pytest.raises(FileFormatError, match="holds no numbers") as caught:
        load_arrays(path)
    assert str(path) in caught.value.where
    assert "bad" in caught.value.where
    assert not canary.exists()


@pytest.mark.parametrize("data", [b"", b"PK", b"\x80\x04\x95", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY", b"0" * 4000])
def test_files_of_other_formats_are_refused(path, data):
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=r"no npz file") as caught:
        load_arrays(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("data.pkl", b"x")], "does not end in .npy"),
        ([("../a.npy", npy(np.ones(1)))], "between slashes"),
        ([("/a.npy", npy(np.ones(1)))], "empty part"),
        ([("a\\b.npy", npy(np.ones(1)))], "backslash"),
        ([("C:a.npy", npy(np.ones(1)))], "colon"),
        ([(".npy", npy(np.ones(1)))], "no text of 1"),
        ([("a.npy", b"")], "damaged"),
        ([("a.npy", b"\x93NUMPY\x09\x00")], "damaged"),
        ([("a.npy", npy(np.ones(4))[:-8])], "shape and size disagree"),
        ([("a.npy", npy(np.ones(4)) + b"\0")], "shape and size disagree"),
        ([("a.npy", npy(np.ones(10)).replace(b"(10,)", b"(-1,)"))], "damaged|disagree"),
        ([("a.npy", npy(np.ones(10)).replace(b"(10,)", b"9**9,"))], "damaged"),
        ([("a.npy", npy(np.ones(1)).replace(b"(1,)", b"f()", 1))], "damaged"),
        ([("a.npy", npy(np.ones(1)).replace(b"<f8", b"|O8"))], "damaged|no numbers"),
        ([("a.npy", npy(np.array(["text"])))], "no numbers"),
        ([("a.npy", npy(np.zeros(2, [("x", "f4")])))], "no numbers"),
    ],
)
def test_members_that_are_not_plain_arrays_are_refused(path, members, message):
    write_zip(path, [("fine.npy", npy(np.ones(2))), *members])
    with pytest.raises(FileFormatError, match=message) as caught:
        load_arrays(path)
    assert str(path) in caught.value.where
    assert members[0][0].removesuffix(".npy").split("\\")[0] in caught.value.where


def test_a_name_that_stands_twice_is_refused(path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        write_zip(path, [("a.npy", npy(np.ones(2))), ("a.npy", npy(np.zeros(2)))])
    with pytest.raises(FileFormatError, match="a member stands twice") as caught:
        load_arrays(path)
    assert caught.value.got == "a"


def test_huge_shapes_are_refused_before_memory_is_taken(path):
    data = npy(np.ones(10)).replace(b"(10,), ", b"(2**9,)")
    giant = npy(np.zeros((1, 1))).replace(b"(1, 1), }                 ", b"(4294967296, 4294967296)}")
    assert b"4294967296" in giant
    for member in (data, giant):
        write_zip(path, [("a.npy", member)])
        with pytest.raises(FileFormatError, match=r"damaged|disagree"):
            load_arrays(path)


def test_a_bomb_is_refused_by_its_declared_size(path):
    np.savez_compressed(path, a=np.zeros(4_000_000, "uint8"), b=np.zeros(4_000_000, "uint8"))
    assert path.stat().st_size < 20_000
    with pytest.raises(FileFormatError, match="more memory than allowed") as caught:
        load_arrays(path, limit_bytes=6_000_000)
    assert "limit_bytes" in caught.value.fix
    assert load_arrays(path)["b"].size == 4_000_000  # 256 MiB are always allowed
    assert load_arrays(path, limit_bytes=9_000_000)["b"].size == 4_000_000


def test_sizes_that_lie_are_refused(path):
    np.savez_compressed(path, a=np.zeros(100_000, "uint8"))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24  # uncompressed size, in the directory
    for lie in (0, 90_000, 110_000, 2**27):
        data[at : at + 4] = lie.to_bytes(4, "little")
        path.write_bytes(data)
        with pytest.raises(FileFormatError, match=r"impossible|disagree|damaged|cut off"):
            load_arrays(path)


def save_as_numpy(path, arrays):
    np.savez_compressed(path, **arrays)


@pytest.mark.parametrize("save", [save_arrays, save_as_numpy])
def test_any_flipped_bit_is_harmless_or_refused(path, save):
    arrays = {"conv/W": np.arange(6, dtype="float32").reshape(2, 3), "b": np.ones((), "int64"), "e": np.ones((0, 2))}
    save(path, arrays)
    good = path.read_bytes()
    refused = 0
    for bit in range(0, 8 * len(good), 5):  # 5: another bit of each byte
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        try:
            found = load_arrays(path)
        except FileFormatError:
            refused += 1
        else:
            same_arrays(found, arrays)
    assert refused > len(good) / 2


def test_any_cut_is_refused(path):
    save_arrays(path, {"conv/W": np.arange(60, dtype="float32"), "b": np.ones((), "int64")})
    good = path.read_bytes()
    for length in range(0, len(good), 3):
        path.write_bytes(good[:length])
        with pytest.raises(FileFormatError, match=r"m\.npz"):
            load_arrays(path)


def test_no_handle_stays_open(path):
    save_arrays(path, {"a": np.ones(2)})
    load_arrays(path)
    write_zip(path, [("a.npy", b"")])
    with pytest.raises(FileFormatError):
        load_arrays(path)  # an open handle would be a ResourceWarning, which is an error here
    if os.path.isdir("/proc/self/fd"):
        links = [
            os.readlink(f"/proc/self/fd/{fd}")
            for fd in os.listdir("/proc/self/fd")
            if os.path.islink(f"/proc/self/fd/{fd}")
        ]
        assert str(path) not in links


# -- comparing --------------------------------------------------------------------------------------------------------

EXPECTED = {"a/W": ((2, 3), "float32"), "a/b": ((3,), "float32"), "c": ((), "int64"), "d": ((1,), "float64")}
FOUND = {"a/W": np.ones((3, 2), "float32"), "a/b": np.ones(3, "float32"), "d": np.ones(1, "float32"), "e": np.ones(1)}


def test_strict_lists_everything_in_one_error():
    with pytest.raises(ParameterError) as caught:
        match(EXPECTED, FOUND, where="m.npz")
    assert str(caught.value) == (
        "m.npz: the arrays do not fit the model\n"
        "  expected: the 4 arrays of the model\n"
        "  got: 1 matched\n"
        "    missing: c\n"
        "    unexpected: e\n"
        "    shape or dtype: a/W is float32[3, 2], not float32[2, 3], d is float32[1], not float64[1]\n"
        "  fix: load them with strict=False to take over what matches"
    )


def test_lenient_reports():
    report = match(EXPECTED, FOUND, strict=False)
    assert (report.matched, report.missing, report.unexpected) == (("a/b",), ("c",), ("e",))
    assert report.mismatched == {"a/W": ("float32[2, 3]", "float32[3, 2]"), "d": ("float64[1]", "float32[1]")}
    assert not report.is_exact
    assert match({"a/b": ((3,), "float32")}, {"a/b": FOUND["a/b"]}).is_exact


def test_long_lists_are_cut_short():
    text = str(match({}, {f"n{index}": np.ones(1) for index in range(1000)}, strict=False))
    assert text.endswith("n19 and 980 more")
    assert text.startswith("0 matched\n")
