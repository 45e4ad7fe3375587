"""A file holds the old bytes or the new ones, whatever happens."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphnn.atomic import replace_file
from graphnn.files.npz import load_arrays

ROOT = Path(__file__).parents[2]


def save(path, between):
    with replace_file(path) as file:
        file.write(b"half")
        between("other half")


def write(path, data):
    with replace_file(path) as file:
        file.write(data)


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write(tmp_path / "missing" / "file", b"new")
    assert caught.value.filename == os.fspath(tmp_path / "missing" / "file")


def test_the_file_is_new_after_the_block_and_old_before(tmp_path):
    path = tmp_path / "file"
    write(path, b"old")
    with replace_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("place", ["block", "fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error, place):
    path = tmp_path / "file"
    write(path, b"old")

    def fail(*arguments):
        raise error

    if place != "block":
        monkeypatch.setattr(os, place, fail)
    with pytest.raises(type(error)):
        save(path, fail if place == "block" else len)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write(tmp_path / "nowhere" / "file", b"")


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real" / "file")
    write(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "real" / "file").read_bytes() == b"new"


def test_the_file_is_readable_as_other_files_are(tmp_path):
    write(tmp_path / "file", b"")
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


SAVER = """
import sys, numpy as np
from graphnn.files.npz import save_arrays
index = 0
while True:
    save_arrays(sys.argv[1], {"a": np.full(300_000, index), "b": np.full(300_000, index)})
    print(index, flush=True)
    index += 1
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_a_killed_process_leaves_a_whole_file(tmp_path):
    rng = random.Random(0)
    for _ in range(4):
        command = [sys.executable, "-c", SAVER, str(tmp_path / "m")]
        with subprocess.Popen(command, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as saver:
            saver.stdout.readline()  # one file is there
            time.sleep(rng.uniform(0, 0.05))
            saver.send_signal(signal.SIGKILL)
        arrays = load_arrays(tmp_path / "m")
        assert (arrays["a"] == arrays["a"][0]).all()
        assert (arrays["b"] == arrays["a"][0]).all()
