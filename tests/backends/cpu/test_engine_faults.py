"""What may go wrong around the engine: interrupts, forks, threads, disks, memory, machines. Nothing may crash."""

import errno
import mmap
import os
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

import graphnn
from graphnn.backends.choose import backend_for
from graphnn.backends.cpu import backend as engine
from graphnn.backends.cpu import executable, memory
from graphnn.backends.cpu.backend import Engine, shared_engine
from graphnn.backends.cpu.target import host_target
from graphnn.backends.fork_lock import ForkLock
from graphnn.errors import BackendError, OptionError

ROOT = Path(__file__).parents[3]
posix = pytest.mark.skipif(os.name == "nt", reason="no such signals, limits and forks there")

# Every program begins with this: training of a small network by two workers, and a digest of all that it has learnt.
COMMON = """
import hashlib, os, signal, sys, threading, time
import numpy as np
import graphnn
from graphnn import Graph, Input, Model, Trainer, layers

graphnn.set_num_threads(2)
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(64, 24)).astype("float32"), rng.integers(0, 5, 64)

def trainer(units=32, dtype="float32"):
    x = Input(("batch", 24), name="x")
    h = layers.BatchNorm()(layers.Tanh()(layers.Linear(units)(x)))
    return Trainer(Model(Graph(x, layers.Linear(5)(layers.Dropout(0.25)(h))), seed=1, dtype=dtype), "cross_entropy")

def digest(made):
    model, found = made.model, hashlib.sha256()
    for store in (model.parameters, model.states):
        for path in store:
            found.update(np.array(store[path]).tobytes())
    return found.hexdigest()

def trained(steps=20, **options):
    made = trainer(**options)
    for _ in range(steps):
        made.train_step(X, Y)
    return digest(made)
"""


def command(program: str) -> list[str]:
    threads = "ignore:This process:DeprecationWarning"  # from Python 3.12 on: a fork of a process with threads
    return [sys.executable, "-X", "faulthandler", "-W", "error", "-W", threads, "-c", COMMON + program]


def environment(folder: Path | None, **changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT", "TMPDIR")}
    given = {} if folder is None else {"GRAPHNN_CACHE_DIR": str(folder)}
    return {**kept, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **given, **changes}


def start(program: str, folder: Path | None, **changes: str) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(command(program), env=environment(folder, **changes), text=True, **pipes)


def output(process: subprocess.Popen) -> str:
    """What it printed; it must end well and say nothing on stderr."""
    out, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (0, ""), err
    return out


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> Path:
    """A cache that holds all kernels of the programs below."""
    folder = tmp_path_factory.mktemp("cache")
    output(start("trained(1)", folder))
    return folder


@pytest.fixture(scope="module")
def expected(warm) -> str:
    """What undisturbed training gives."""
    return output(start("print(trained())", warm)).strip()


# -- interrupts, forks, threads ----------------------------------------------------------------------------------------


@posix
def test_training_goes_on_after_interrupts(warm, expected):
    """Ctrl-C ten times, each at another moment; what is trained from the start then is the same to the bit."""
    program = """
made, caught, here = trainer(), 0, os.getpid()
made.train_step(X, Y)
for number in range(10):
    timer = threading.Timer(0.01 + 0.0037 * number, os.kill, (here, signal.SIGINT))
    try:
        timer.start()
        while True:
            made.train_step(X, Y)
    except KeyboardInterrupt:
        caught += 1
    timer.join()
    if not np.isfinite(made.train_step(X, Y)): sys.exit("diverged")
print(caught, trained())
"""
    assert output(start(program, warm)).split() == ["10", expected]


@posix
def test_a_forked_child_trains_and_so_does_its_parent(warm, expected):
    """Also where other threads of the parent run and compile at that moment, and hold all locks that there are."""
    program = """
made, stop = trainer(), threading.Event()
made.train_step(X, Y)

def run():
    while not stop.is_set():
        made.train_step(X, Y)

def build():
    units = 40
    while not stop.is_set():
        units += 1
        trained(1, units=units)

threads = [threading.Thread(target=work, daemon=True) for work in (run, run, build)]
for thread in threads:
    thread.start()
time.sleep(0.1)
for number in range(4):
    child = os.fork()
    if not child:
        made.train_step(X, Y)  # the lock of this executable is held in the parent by another thread
        os._exit(0 if trained() == sys.argv[1] and trained(1, units=33 + number) else 1)
    deadline = time.monotonic() + 40
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGABRT)
            sys.exit("a child hangs")
        time.sleep(0.005)
stop.set()
for thread in threads:
    thread.join()
print(trained())
"""
    process = subprocess.Popen(
        [*command(program), expected], env=environment(warm), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert output(process).strip() == expected


@posix
def test_a_forked_child_exits_with_its_own_status(warm, expected):
    program = """
if trained() != sys.argv[1]: sys.exit("another result")
child = os.fork()
if not child:
    sys.exit(7 if trained() == sys.argv[1] else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    process = subprocess.Popen(
        [*command(program), expected], env=environment(warm), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert output(process).strip() == "7"


@posix
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_lock_is_free_in_a_forked_child():
    lock = ForkLock()
    read, write = os.pipe()
    with lock.own:
        child = os.fork()
        if not child:
            os.write(write, b"free" if lock.own.acquire(timeout=5) else b"held")
            os._exit(0)
        assert not lock.own.acquire(blocking=False)
    os.waitpid(child, 0)
    assert os.read(read, 4) == b"free"
    assert lock.own.acquire(blocking=False)
    for end in (read, write):
        os.close(end)


def test_models_in_many_threads_give_what_they_give_alone(warm, expected):
    program = """
results = []
threads = [threading.Thread(target=lambda: results.append(trained())) for _ in range(5)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*results)
"""
    assert output(start(program, warm)).split() == [expected] * 5


def test_exit_does_not_wait_for_sleeping_workers_nor_for_a_thread_that_trains(warm):
    program = """
trained(3)
def forever():
    while True:
        trained(5)
threading.Thread(target=forever, daemon=True).start()
time.sleep(0.2)
print("end")
"""
    assert output(start(program, warm)).strip() == "end"


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", None, np.float64(2), 10**9])
def test_bad_numbers_of_threads_are_refused_and_change_nothing(threads):
    before = graphnn.num_threads()
    with pytest.raises(OptionError, match="not a number of threads"):
        graphnn.set_num_threads(threads)
    assert graphnn.num_threads() == before


# -- the cache on disk -------------------------------------------------------------------------------------------------


def test_without_a_folder_or_a_home_results_are_the_same(tmp_path, expected):
    (tmp_path / "file").touch()
    processes = [start("print(trained())", tmp_path / "file" / "below"), start("print(trained())", None, HOME="")]
    assert [output(process).strip() for process in processes] == [expected] * 2


def test_damaged_entries_are_made_again(tmp_path, expected):
    assert output(start("print(trained())", tmp_path)).strip() == expected
    entries = sorted((tmp_path / "kernels").iterdir())
    assert len(entries) > 5
    whole = [entry.read_bytes() for entry in entries]
    for number, (entry, content) in enumerate(zip(entries, whole, strict=True)):
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        entry.write_bytes([b"", content[:middle], flipped, b"\x00" * len(content)][number % 4])
    assert output(start("print(trained())", tmp_path)).strip() == expected
    assert [entry.read_bytes() for entry in entries] == whole


def test_processes_that_compile_at_once_agree_with_each_other_and_with_a_warm_cache(tmp_path, expected):
    processes = [start("print(trained())", tmp_path) for _ in range(3)]
    assert [output(process).strip() for process in processes] == [expected] * 3


# -- bitwise the same --------------------------------------------------------------------------------------------------

MODULES = """
from module_cases import SMALL, flat_outputs, seeds_of
for dtype in ("float32", "float16"):
    for case in SMALL:
        model, found = Model(case.graph, seed=3, dtype=dtype), hashlib.sha256()
        for _ in range(2):
            outputs = flat_outputs(model.forward(**case.arrays(dtype), training=True, retain=True))
            model.backward(*seeds_of(outputs))
            for array in (*outputs, *model.gradients.values(), *model.states.values()):
                found.update(np.array(array).tobytes())
        print(case, dtype, found.hexdigest())
"""


def test_modules_give_the_same_bits_in_every_process_with_a_cold_and_a_warm_cache(tmp_path):
    cold = output(start(MODULES, tmp_path / "a", PYTHONHASHSEED="1"))
    processes = [
        start(MODULES, tmp_path / "a", PYTHONHASHSEED="2"),
        start(MODULES, tmp_path / "b", PYTHONHASHSEED="3"),
    ]
    assert len(cold.splitlines()) == 10
    assert [output(process) for process in processes] == [cold] * 2


# -- memory and machines -----------------------------------------------------------------------------------------------


def small_model(**options) -> graphnn.Model:
    x = graphnn.Input(("batch", 3), name="x")
    return graphnn.Model(graphnn.Graph(x, graphnn.layers.Linear(2)(x)), **options)


@pytest.mark.parametrize("which", ["arena", "outputs"])
def test_too_little_memory_is_a_typed_error_and_harms_no_model(which, monkeypatch):
    model, rows = small_model(), np.ones((4, 3), "float32")
    wanted = model.forward(rows)
    limit = {"arena": 1 << 20, "outputs": 4096}[which]

    def empty(shape, dtype="float64", allocate=np.empty):
        if np.prod(shape) * np.dtype(dtype).itemsize > limit:
            raise MemoryError
        return allocate(shape, dtype)

    def no_pages(number, nbytes, allocate=mmap.mmap, **how):
        if nbytes > limit:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return allocate(number, nbytes, **how)

    big = np.ones((1 << 18, 3), "float32")
    with monkeypatch.context() as patch:
        patch.setattr(executable.np, "empty", empty)
        patch.setattr(memory.mmap, "mmap", no_pages)
        with pytest.raises(BackendError, match="more memory than there is"):
            model.forward(big, training=True, retain=True)
    assert model.forward(rows).tobytes() == wanted.tobytes()
    assert model.forward(big).shape == (1 << 18, 2)


@posix
def test_a_limit_on_memory_does_not_end_the_interpreter(warm, expected):
    program = """
import resource
made = trainer()
made.train_step(X, Y)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20), -1))
try:
    made.train_step(np.zeros((1 << 19, 24), "float32"), np.zeros(1 << 19, "int64"))
except (graphnn.BackendError, MemoryError) as error:
    print(type(error).__name__)
print(np.isfinite(made.train_step(X, Y)), trained())
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("no such file here")
    assert output(start(program, warm)).split() == ["BackendError", "True", expected]


def test_another_cpu_is_a_typed_error_that_names_the_way_out(monkeypatch):
    monkeypatch.setattr(llvm, "get_process_triple", lambda: "riscv64-unknown-linux-gnu")
    with pytest.raises(BackendError, match="no code can be made") as caught:
        host_target()
    assert 'device="reference"' in caught.value.fix


def test_a_missing_code_generator_is_a_typed_error_and_the_reference_works(monkeypatch):
    def missing(triple):
        raise RuntimeError(f"No available targets are compatible with triple {triple!r}")

    monkeypatch.setattr(llvm.Target, "from_triple", missing)
    monkeypatch.setattr(engine, "shared_engine", lambda: Engine(shared_engine().target))
    with pytest.raises(BackendError, match="No available targets") as caught:
        small_model().forward(np.ones((1, 3)))
    assert 'device="reference"' in caught.value.fix
    assert small_model(device="reference").forward(np.ones((1, 3))).shape == (1, 2)


@pytest.mark.parametrize("error", [ImportError, OSError])
def test_without_llvmlite_other_devices_work(error):
    program = f"""
import importlib.abc
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "llvmlite":
            raise {error.__name__}("no llvmlite here")
sys.meta_path.insert(0, Missing())
"""
    body = """
import sys
import numpy as np
from graphnn import BackendError, Graph, Input, Model, layers, set_num_threads
x = Input(("batch", 3), name="x")
graph = Graph(x, layers.Linear(2)(x))
for use in (lambda: Model(graph), lambda: set_num_threads(2)):
    try:
        use()
    except BackendError as error:
        print("pip install llvmlite" in error.fix, 'device="reference"' in error.fix, error.got)
print(Model(graph, device="reference").forward(np.ones((4, 3))).shape)
"""
    text = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import sys" + program + body],
        env=environment(None), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert text.splitlines() == ["True True no llvmlite here"] * 2 + ["(4, 2)"]


def test_an_unknown_device_is_told():
    with pytest.raises(BackendError, match="unknown device"):
        backend_for("tpu")
