"""Keeps the package in layers and free of constructs that it promises not to use. The tables below are the rules."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import graphnn

ROOT = Path(__file__).parents[1]

# A file may import from the lines above its own and from its own line, never from below. graphnn/__init__.py may import
# anything; only the last line may import it in turn.
LEVELS = (
    ("errors",),
    ("atomic",),
    ("ir",),
    ("ops",),
    ("autodiff",),
    ("scan", "tiled"),
    ("initializers",),
    ("graph",),
    ("layers",),
    ("modules",),
    ("configurable",),
    ("losses", "optimizers", "schedules", "metrics"),
    ("passes",),
    ("plan",),
    ("backends",),
    ("render",),
    ("files",),
    ("compile",),
    ("arrays",),
    ("model", "model_paths", "model_summary", "run"),
    ("training",),
    ("gradient_check", "plans", "profiler", "values", "explanation"),
    ("model_views", "node_costs", "run_views"),
    ("bench",),
    ("cli", "__main__"),
)

# Methods that users look for on a class whose work is done below it. Only these import from graphnn when called.
DOORS = {
    ("backends/choose.py", "_native"),
    ("graph/attempt.py", "graph_so_far"),
    ("graph/diff.py", "to_svg"),
    ("graph/graph.py", "to_graphviz"),
    ("graph/graph.py", "to_svg"),
    ("graph/graph.py", "render"),
    ("graph/graph.py", "to_json"),
    ("graph/graph.py", "_repr_mimebundle_"),
    ("ir/program.py", "_repr_mimebundle_"),
    ("model.py", "render"),
    ("model.py", "save_weights"),
    ("model.py", "load_weights"),
    ("model.py", "_assign"),
    ("model.py", "to_svg"),
    ("training/history.py", "to_svg"),
    ("training/trainer.py", "render"),
    ("training/trainer.py", "save_checkpoint"),
    ("training/trainer.py", "load_checkpoint"),
    ("training/trainer.py", "to_svg"),
    ("plan/plan.py", "_repr_mimebundle_"),
    ("graph/graph.py", "from_json"),
    ("model.py", "explain"),
    ("training/trainer.py", "explain"),
}

# Slow to load or perhaps not installed: imported inside the function that needs them, never at the top of a file.
LOADED_ON_FIRST_USE = {"cupy", "graphviz", "jax", "networkx", "pygraphviz", "sklearn", "tensorboardX", "torch"}

# What a plain `import graphnn` must leave alone: it takes more time than all that a first model needs.
NOT_LOADED_BY_IMPORT = LOADED_ON_FIRST_USE | {"IPython", "llvmlite", "torch", "zipfile", "html"}
NOT_LOADED_OF_GRAPHNN = {
    "graphnn.render.svg",
    "graphnn.render.chart",
    "graphnn.explanation",
    "graphnn.profiler",
    "graphnn.backends.cpu",
}

# Ways to run code that came as data, and the call that would let numpy do so.
FORBIDDEN_MODULES = {"cloudpickle", "dill", "marshal", "pickle", "shelve"}
FORBIDDEN_NAMES = {"eval", "exec"} | FORBIDDEN_MODULES
FORBIDDEN_ARGUMENT = "allow_pickle"

LONGEST_FILE = 400

LEVEL_OF = {name: level for level, names in enumerate(LEVELS) for name in names}


@dataclass(frozen=True)
class Import:
    """One imported module: where, and inside which functions (outermost first) the import statement stands."""

    line: int
    module: str
    functions: tuple[str, ...]
    for_types_only: bool

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    @property
    def unit(self) -> str:
        """The file or folder of graphnn that the import reaches for, "" for graphnn itself."""
        return [*self.module.split("."), ""][1]

    def is_through(self, file: str) -> str | None:
        """The door of `file` in which this import stands."""
        if self.package != "graphnn":
            return None
        return next((name for name in self.functions if (file, name) in DOORS), None)


def imports_in(source: str) -> Iterator[Import]:
    def visit(node: ast.AST, functions: tuple[str, ...], for_types_only: bool) -> Iterator[Import]:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                functions = (*functions, node.name)
            case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                for child in node.body:
                    yield from visit(child, functions, True)
                for child in node.orelse:
                    yield from visit(child, functions, for_types_only)
                return
            case ast.Import():
                for alias in node.names:
                    yield Import(node.lineno, alias.name, functions, for_types_only)
            case ast.ImportFrom(level=0, module=str(module)):
                # `from graphnn import ir` reaches for graphnn.ir; `from graphnn import Graph` for graphnn itself.
                names = [alias.name for alias in node.names if module == "graphnn" and alias.name in LEVEL_OF]
                for name in names:
                    yield Import(node.lineno, f"graphnn.{name}", functions, for_types_only)
                if len(names) < len(node.names):
                    yield Import(node.lineno, module, functions, for_types_only)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, functions, for_types_only)

    return visit(ast.parse(source), (), False)


def level_faults(file: str, source: str) -> Iterator[str]:
    """Imports that reach for a file further down the list."""
    unit = file.partition("/")[0].removesuffix(".py")
    if file == "__init__.py":
        return
    if unit not in LEVEL_OF:
        yield f"graphnn/{file}:1: {unit!r} has no level; give it a line in LEVELS of tests/test_layering.py"
        return
    own = LEVEL_OF[unit]
    for found in imports_in(source):
        if found.package != "graphnn" or found.is_through(file):
            continue
        where = f"graphnn/{file}:{found.line}: "
        if found.unit == "":
            if own != len(LEVELS) - 1:
                yield where + "imports a name from graphnn itself; import it from the module that defines it"
        elif found.unit not in LEVEL_OF:
            yield where + f"imports {found.module}, which has no level; give it a line in LEVELS"
        elif LEVEL_OF[found.unit] > own:
            yield (
                where + f"{unit} imports {found.module}, which is below it; pass the value in, or move code up or down"
            )


def place_faults(file: str, source: str) -> Iterator[str]:
    """Imports inside functions that belong at the top, and the other way round; imports that hide their target."""
    for found in imports_in(source):
        where = f"graphnn/{file}:{found.line}: "
        if found.functions:
            if not (found.package in LOADED_ON_FIRST_USE or found.is_through(file)):
                yield where + f"imports {found.module} inside {found.functions[-1]}(); move it to the top of the file"
        elif found.package in LOADED_ON_FIRST_USE and not found.for_types_only:
            yield where + f"imports {found.module} at the top; import it inside the function that uses it"
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(level=level) if level > 0:
                yield f"graphnn/{file}:{node.lineno}: relative import; write the full name, graphnn.<...>"
            case ast.Call(func=ast.Name("__import__" | "import_module") | ast.Attribute(attr="import_module")):
                if file != "__init__.py":
                    yield f"graphnn/{file}:{node.lineno}: imports by a call; write an import statement"


def construct_faults(file: str, source: str) -> Iterator[str]:
    """Asserts, which vanish under `python -O`, and ways to run code that came as data."""
    for node in ast.walk(ast.parse(source)):
        where = f"graphnn/{file}:{getattr(node, 'lineno', 0)}: "
        match node:
            case ast.Assert():
                yield where + "assert vanishes under python -O; raise an error from graphnn.errors"
            case ast.Name(name) if name in FORBIDDEN_NAMES:
                yield where + f"uses {name}, which can run code from data; write out what it should do"
            case ast.Attribute(value=ast.Name("builtins"), attr=name) if name in FORBIDDEN_NAMES:
                yield where + f"uses builtins.{name}, which can run code from data; write out what it should do"
            case ast.keyword(arg=name, value=value) if name == FORBIDDEN_ARGUMENT:
                if not (isinstance(value, ast.Constant) and value.value is False):
                    yield where + f"{name} is not False; a file that was loaded could run code"
    for found in imports_in(source):
        if found.package in FORBIDDEN_MODULES:
            yield f"graphnn/{file}:{found.line}: imports {found.module}; write data in a format that cannot hold code"


def length_faults(file: str, source: str) -> Iterator[str]:
    """Files that have grown past what one reads at a sitting."""
    if (lines := len(source.splitlines())) > LONGEST_FILE:
        yield f"graphnn/{file}:{lines}: {lines} lines, where {LONGEST_FILE} are allowed; split it by subject"


CHECKS = (level_faults, place_faults, construct_faults, length_faults)


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """The text of each file of the package by its path below graphnn/."""
    package = ROOT / "graphnn"
    files = {file.relative_to(package).as_posix(): file for file in sorted(package.rglob("*.py"))}
    if "__init__.py" not in files:
        pytest.fail(f"no graphnn/__init__.py beside {Path(__file__).parent.name}/: there is nothing to check")
    return {name: file.read_text(encoding="utf-8") for name, file in files.items()}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_package_has_none_of_these(check: Callable[[str, str], Iterator[str]], sources: dict[str, str]):
    faults = [fault for file, source in sources.items() for fault in check(file, source)]
    assert not faults, "\n" + "\n".join(faults)


def test_levels_all_exist(sources: dict[str, str]):
    units = {file.partition("/")[0].removesuffix(".py") for file in sources}
    gone = sorted(set(LEVEL_OF) - units)
    assert not gone, f"graphnn/ has no such file or folder: take it out of LEVELS in {Path(__file__).name}: {gone}"


def test_doors_are_all_used(sources: dict[str, str]):
    used = {(file, found.is_through(file)) for file, source in sources.items() for found in imports_in(source)}
    unused = sorted(DOORS - used)
    assert not unused, f"no such function imports from graphnn: take it out of DOORS in {Path(__file__).name}: {unused}"


def test_import_leaves_heavy_packages_alone():
    # Only what graphnn itself adds counts: some installations load packages when Python starts. -W error: it is quiet.
    program = (
        "import sys; before = set(sys.modules); import graphnn, json; "
        "print(json.dumps([sorted(set(sys.modules) - before), graphnn.__file__]))"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    loaded, origin = json.loads(result.stdout)
    assert os.path.samefile(Path(origin).parent, ROOT / "graphnn"), "another graphnn than this one was imported"
    packages = {name.partition(".")[0] for name in loaded}
    found = NOT_LOADED_BY_IMPORT & packages | NOT_LOADED_OF_GRAPHNN & set(loaded)
    assert not found, "`import graphnn` loads them; import them on first use (-X importtime)"


@pytest.mark.parametrize("name", graphnn.__all__)
def test_every_public_name_can_be_had(name: str):
    assert name in dir(graphnn)
    assert getattr(graphnn, name) is getattr(graphnn, name)


def test_a_name_that_is_not_there_is_an_attribute_error():
    assert not hasattr(graphnn, "nothing_of_that_name")


# The checks themselves: each line is a fault that must be found, or code that must be left alone.
FAULTY = [
    (level_faults, "ir/program.py", "from graphnn.model import Model", "ir imports graphnn.model, which is below it"),
    (level_faults, "ir/program.py", "import graphnn.ops.op", "ir imports graphnn.ops.op"),
    (level_faults, "ops/op.py", "def f():\n    from graphnn.plan import plan", "ops/op.py:2: ops imports graphnn.plan"),
    (level_faults, "ops/op.py", "if TYPE_CHECKING:\n    import graphnn.model", "ops/op.py:2: ops imports"),
    (level_faults, "ops/op.py", "from graphnn import ir, model", "ops imports graphnn.model"),
    (level_faults, "ops/op.py", "from graphnn import Graph", "imports a name from graphnn itself"),
    (level_faults, "model.py", "import graphnn", "imports a name from graphnn itself"),
    (level_faults, "model.py", "import graphnn.nowhere", "imports graphnn.nowhere, which has no level"),
    (level_faults, "nowhere/peers.py", "", "'nowhere' has no level"),
    (level_faults, "graph/node.py", "def to_svg():\n    import graphnn.render", "graph imports graphnn.render"),
    (place_faults, "model.py", "def f():\n    import json", "model.py:2: imports json inside f()"),
    (place_faults, "model.py", "async def f():\n    import json", "inside f()"),
    (place_faults, "model.py", "class A:\n    def f(self):\n        from graphnn import plan", "model.py:3"),
    (place_faults, "graph/graph.py", "def to_svg():\n    import json", "imports json inside to_svg()"),
    (place_faults, "graph/order.py", "import networkx as nx", "order.py:1: imports networkx at the top"),
    (place_faults, "model.py", "try:\n    from cupy.cuda import Device\nexcept ImportError: pass", "imports cupy.cuda"),
    (place_faults, "model.py", "from .plan import plan", "relative import"),
    (place_faults, "model.py", "importlib.import_module('graphnn.cli')", "imports by a call"),
    (place_faults, "model.py", "__import__('json')", "imports by a call"),
    (construct_faults, "model.py", "\nassert x", "model.py:2: assert vanishes"),
    (construct_faults, "model.py", "eval('1')", "uses eval"),
    (construct_faults, "model.py", "run = exec", "uses exec"),
    (construct_faults, "model.py", "builtins.exec('1')", "uses builtins.exec"),
    (construct_faults, "model.py", "from pickle import loads", "imports pickle"),
    (construct_faults, "model.py", "import marshal as data", "imports marshal"),
    (construct_faults, "model.py", "np.load(file, allow_pickle=flag)", "allow_pickle is not False"),
    (length_faults, "model.py", "x = 1\n" * 401, "401 lines, where 400"),
]
CLEAN = [
    ("__init__.py", "from graphnn.model import Model\nfrom graphnn import cli"),
    ("__main__.py", "from graphnn import __version__\nfrom graphnn.cli import main"),
    ("losses.py", "from graphnn import metrics, ops\nfrom graphnn.schedules import Constant\nimport json"),
    ("ir/text.py", "from graphnn.ir.program import Program\nfrom graphnn.errors import GraphError"),
    ("graph/graph.py", "class Graph:\n    def to_svg(self):\n        from graphnn.render import svg"),
    ("graph/order.py", "if TYPE_CHECKING:\n    import networkx\ndef f():\n    import networkx as nx"),
    ("model.py", "model.eval(); np.load(file, allow_pickle=False); compile(graph)"),
    ("model.py", "x = 1\n" * 400),
]


@pytest.mark.parametrize(("check", "file", "source", "message"), FAULTY)
def test_fault_is_found(check: Callable[[str, str], Iterator[str]], file: str, source: str, message: str):
    faults = list(check(file, source))
    assert len(faults) == 1
    assert faults[0].startswith(f"graphnn/{file}:")
    assert message in faults[0]


@pytest.mark.parametrize(("file", "source"), CLEAN)
def test_clean_code_is_left_alone(file: str, source: str):
    assert [fault for check in CHECKS for fault in check(file, source)] == []
