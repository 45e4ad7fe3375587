"""Machine code on disk is whole or missing, whatever happens, and never in the way."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.backends.cpu import cache as cache_module
from graphnn.backends.cpu.cache import Cache, default_folder

ROOT = Path(__file__).parents[3]


def entry(folder: Path, key: str) -> Path:
    return folder / "kernels" / f"{key}.object"


@given(data=st.binary(max_size=5000))
def test_what_was_stored_is_loaded(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cache")
    Cache(folder).store("key", data)
    assert Cache(folder).load("key") == data
    assert Cache(folder).load("other") is None


def test_every_damage_is_seen_and_mended(tmp_path):
    cache, data = Cache(tmp_path), bytes(range(60))
    cache.store("key", data)
    path = entry(tmp_path, "key")
    whole = path.read_bytes()
    damaged = [whole[:size] for size in range(len(whole))]
    damaged += [whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :] for n in range(len(whole))]
    damaged += [whole + b"\0", whole + whole]
    for content in damaged:
        path.write_bytes(content)
        assert cache.load("key") is None
    cache.store("key", data)
    assert cache.load("key") == data


def test_an_entry_that_is_no_file_counts_as_missing(tmp_path):
    cache = Cache(tmp_path)
    entry(tmp_path, "key").mkdir()
    assert cache.load("key") is None
    cache.store("key", b"data")
    assert "not written" in cache.status().fault


# -- size -------------------------------------------------------------------------------------------------------------


def age(folder: Path, key: str, hours: float) -> None:
    os.utime(entry(folder, key), (0, time.time() - 3600 * hours))


def test_the_longest_unused_go_first(tmp_path):
    cache = Cache(tmp_path, limit=10_000)
    for n in range(8):
        cache.store(f"key{n}", bytes(1000))
        age(tmp_path, f"key{n}", 100 - n)
    assert cache.load("key0") == bytes(1000)  # used again: now the youngest
    for n in range(8, 12):
        cache.store(f"key{n}", bytes(1000))
    assert cache.status().nbytes <= 10_000
    kept = {n for n in range(12) if cache.load(f"key{n}") is not None}
    assert {0, 8, 9, 10, 11} <= kept
    assert kept - {0} == set(range(min(kept - {0}), 12))


def test_it_never_grows_far_beyond_the_limit(tmp_path):
    cache, rng = Cache(tmp_path, limit=100_000), random.Random(0)
    for n in range(300):
        cache.store(f"key{n}", bytes(rng.randrange(4000)))
        assert cache.status().nbytes <= 100_000 * 17 / 16 + 5000
    assert cache.load("key299") is not None


def test_an_entry_beyond_the_limit_does_no_harm(tmp_path):
    cache = Cache(tmp_path, limit=1000)
    cache.store("large", bytes(5000))
    cache.store("small", bytes(10))
    assert cache.load("small") == bytes(10)
    assert cache.status().nbytes <= 1000


def test_what_killed_writers_left_is_removed_once_it_is_old(tmp_path):
    cache = Cache(tmp_path)
    old, new = (tmp_path / "kernels" / f".{name}.tmp" for name in ("old", "new"))
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (0, 0))
    cache.store("key", b"data")
    assert not old.exists()
    assert new.exists()
    assert cache.status().entries == 1


# -- places that do not work ------------------------------------------------------------------------------------------


def check_useless(cache: Cache, reason: str) -> None:
    cache.store("key", b"data")
    assert cache.load("key") is None
    assert reason in cache.status().fault
    assert cache.status().entries == 0


def test_no_folder_means_no_cache(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    check_useless(Cache(tmp_path / "file"), "no folder")


def test_no_home_means_no_cache(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cache_module, "default_folder", homeless)
    check_useless(Cache(), "Could not determine home")


@pytest.mark.skipif(os.name == "nt", reason="other rights there")
def test_code_that_others_could_have_written_is_not_run(tmp_path, monkeypatch):
    Cache(tmp_path).store("key", b"data")
    (tmp_path / "kernels").chmod(0o777)
    assert Cache(tmp_path).load("key") is None
    assert "other users may write" in Cache(tmp_path).status().fault
    (tmp_path / "kernels").chmod(0o700)
    assert Cache(tmp_path).load("key") == b"data"
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert Cache(tmp_path).load("key") is None
    assert "another user" in Cache(tmp_path).status().fault


@pytest.mark.skipif(os.name == "nt", reason="other rights there")
def test_a_new_folder_is_ours_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        cache = Cache(tmp_path / "deep" / "down")
    finally:
        os.umask(before)
    cache.store("key", b"data")
    assert cache.load("key") == b"data"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="rights do not bind this user")
def test_a_read_only_folder_still_gives(tmp_path):
    Cache(tmp_path).store("key", b"data")
    (tmp_path / "kernels").chmod(0o500)
    cache = Cache(tmp_path)
    cache.store("new", b"data")
    assert cache.load("key") == b"data"
    assert "not written" in cache.status().fault


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(30, "Read-only file system")])
def test_a_disk_that_takes_nothing_is_tried_once(tmp_path, monkeypatch, error):
    Cache(tmp_path).store("key", b"data")
    tries = []

    def fail(*arguments, **options):
        tries.append(arguments)
        raise error

    monkeypatch.setattr(cache_module, "replace_file", fail)
    cache = Cache(tmp_path)
    for n in range(5):
        cache.store(f"new{n}", b"data")
    assert len(tries) == 1
    assert cache.load("key") == b"data"
    assert error.strerror in cache.status().fault


def test_a_folder_that_vanishes_is_no_fault_of_the_user(tmp_path):
    cache = Cache(tmp_path)
    (tmp_path / "kernels").rmdir()
    assert cache.load("key") is None
    cache.store("key", b"data")
    assert cache.status().entries == 0


HOME = Path.home()
PLACES = [
    ({"GRAPHNN_CACHE_DIR": "/a"}, "linux", Path("/a")),
    ({"GRAPHNN_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/x"}, "darwin", Path("/a")),
    ({"GRAPHNN_CACHE_DIR": "~/a"}, "linux", HOME / "a"),
    ({"GRAPHNN_CACHE_DIR": ""}, "linux", HOME / ".cache/graphnn"),
    ({"XDG_CACHE_HOME": "/x"}, "linux", Path("/x/graphnn")),
    ({"XDG_CACHE_HOME": "relative"}, "linux", HOME / ".cache/graphnn"),  # the standard says: to be ignored
    ({}, "linux", HOME / ".cache/graphnn"),
    ({"XDG_CACHE_HOME": "/x"}, "darwin", HOME / "Library/Caches/graphnn"),
    ({"LOCALAPPDATA": "/l"}, "win32", Path("/l/graphnn/Cache")),
    ({}, "win32", HOME / "AppData/Local/graphnn/Cache"),
]


@pytest.mark.parametrize(("environment", "platform", "folder"), PLACES)
def test_it_lies_where_the_platform_keeps_caches(environment, platform, folder):
    assert default_folder(environment, platform) == folder


# -- many processes ---------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from graphnn.backends.cpu.cache import Cache
cache, rounds = Cache(Path(sys.argv[1]), limit=int(sys.argv[2])), int(sys.argv[3])
print("ready", flush=True)
for n in range(rounds):
    key = n % 50
    data = bytes([key]) * (20000 + key)
    cache.store(f"key{key}", data)
    if cache.load(f"key{(key * 7) % 50}") not in (None, bytes([key * 7 % 50]) * (20000 + key * 7 % 50)):
        sys.exit("a wrong entry")
if cache.status().fault: sys.exit(cache.status().fault)
"""


def writer(folder: Path, limit: int, rounds: int) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(folder), str(limit), str(rounds)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("limit", [1 << 30, 400_000])  # with room for all, and with one cleaning up after the other
def test_processes_share_a_folder(tmp_path, limit):
    writers = [writer(tmp_path, limit, 300) for _ in range(3)]
    errors = [process.communicate(timeout=60)[1] for process in writers]
    assert [process.returncode for process in writers] == [0, 0, 0], errors
    assert not list((tmp_path / "kernels").glob("*.tmp"))
    if limit == 1 << 30:
        assert Cache(tmp_path).status().entries == 50
    for key in range(50):
        assert Cache(tmp_path).load(f"key{key}") in (None, bytes([key]) * (20000 + key))


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_a_killed_writer_leaves_whole_entries(tmp_path):
    rng = random.Random(0)
    for _ in range(4):
        with writer(tmp_path, 1 << 30, 10**6) as process:
            process.stdout.readline()
            time.sleep(rng.uniform(0.01, 0.05))
            process.send_signal(signal.SIGKILL)
        cache = Cache(tmp_path)
        assert cache.status().entries > 0
        for path in (tmp_path / "kernels").glob("*.object"):
            assert cache.load(path.stem) is not None
