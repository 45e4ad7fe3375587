"""Pages and docstrings stay true where a program can tell.

Links resolve, files and names that are mentioned exist, and all that is public is explained.
"""

import builtins
import importlib
import inspect
import keyword
import pkgutil
import re
from pathlib import Path

import pytest

import graphnn
from graphnn.graph.layer import Layer
from graphnn.ops.op import Op
from pages import PAGES, ROOT, blocks, prose
from test_layering import LEVELS

DOCS = [page for page in PAGES if page.is_relative_to(ROOT / "docs") or page.name in ("README.md", "CONTRIBUTING.md")]
NUMBERED = sorted((ROOT / "docs" / "decisions").glob("*.md"))
ENDINGS = r"py|md|svg|html|dot|npz|json|toml"
MADE_BY_READERS = {"residual.py", "out/"}
LONGEST_PAGE = 60  # lines of a decision, its measurements and code among them


def names_of(pages):
    return [page.relative_to(ROOT).as_posix() for page in pages]


# -- links and files ---------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


def test_every_page_is_in_the_index():
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)\)", prose(index))}
    assert {page for page in PAGES if page.is_relative_to(index.parent)} - {index} == linked


@pytest.mark.parametrize("page", DOCS, ids=names_of(DOCS))
def test_files_that_are_named_exist(page):
    """In the project, or, by its own name alone, in the package."""
    for token in re.findall(rf"`([\w.*-][\w./*-]*(?:/|\.(?:{ENDINGS})))`", prose(page)):
        found = list(ROOT.glob(token.rstrip("/"))) or list((ROOT / "graphnn").glob(token.rstrip("/")))
        assert found or token in MADE_BY_READERS, f"{page.name} names {token}"


# -- names -------------------------------------------------------------------------------------------------------------


def words_of_the_project() -> set[str]:
    files = [*ROOT.glob("graphnn/**/*.py"), *ROOT.glob("tests/**/*.py"), ROOT / "pyproject.toml"]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files if file != Path(__file__))
    return {*re.findall(r"\w+", text), *dir(builtins), *keyword.kwlist}


WORDS = words_of_the_project()
FOREIGN = {  # names of other libraries, and of what a reader makes
    "coming_from.md": {"Conv1d", "F.pad", "block.conv.weight", "model.train()", "rate", "zero_grad()"},
    "CONTRIBUTING.md": {"F811"},
    "0009-scatter-add.md": {"bincount", "reduceat"},
}


@pytest.mark.parametrize("page", DOCS, ids=names_of(DOCS))
def test_code_that_is_named_exists(page):
    """Each word of what stands in backticks occurs in the project's code, or in the code on the page."""
    known = WORDS | {word for block in blocks(page) for word in re.findall(r"\w+", block.text)}
    for token in re.findall(r"`([^`\n]+)`", prose(page)):
        is_file = re.search(rf"/|\.(?:{ENDINGS})$", token)
        if " " in token or is_file or token in FOREIGN.get(page.name, ()):
            continue
        missing = [word for word in re.findall(r"[A-Za-z_]\w+", token) if word not in known]
        assert not missing, f"{page.name} names {token}: there is no {', '.join(missing)}"


@pytest.mark.parametrize("page", DOCS, ids=names_of(DOCS))
def test_dotted_names_can_be_imported(page):
    for name in re.findall(r"`(graphnn(?:\.\w+)+)`", prose(page)):
        if re.search(rf"\.(?:{ENDINGS})$", name):
            continue
        module, _, attribute = name.rpartition(".")
        assert importlib.util.find_spec(name) or hasattr(importlib.import_module(module), attribute), name


def test_the_drawn_order_is_the_enforced_one():
    (drawing,) = [block for block in blocks(ROOT / "docs" / "architecture.md") if block.text.startswith("errors ")]
    lines = [re.split(r"\s{2,}", line)[0] for line in drawing.text.splitlines()]
    assert [set(line.split()) for line in lines] == [set(level) for level in LEVELS]


# -- decisions ---------------------------------------------------------------------------------------------------------


def test_decisions_are_numbered_without_gaps():
    assert [page.name[:4] for page in NUMBERED] == [f"{number:04}" for number in range(1, len(NUMBERED) + 1)]


@pytest.mark.parametrize("page", NUMBERED, ids=names_of(NUMBERED))
def test_a_decision_is_one_page_with_its_four_parts(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(page.name[:4])}. ")
    parts = re.findall(r"^\*\*(Context|Choice|Alternatives|Consequences)\.\*\*", text, re.MULTILINE)
    assert parts == ["Context", "Choice", "Alternatives", "Consequences"]
    assert len(text.splitlines()) <= LONGEST_PAGE


# -- docstrings --------------------------------------------------------------------------------------------------------


def import_all() -> None:
    for module in pkgutil.walk_packages(graphnn.__path__, "graphnn."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def registered(base: type) -> list[type]:
    """The classes of the package below `base`, abstract ones too."""
    import_all()
    found, stack = {}, [base]
    while stack:
        kind = stack.pop()
        found[kind] = None
        stack += kind.__subclasses__()
    return sorted(
        (kind for kind in found if kind.__module__.startswith("graphnn.")), key=lambda kind: kind.__qualname__
    )


def promise(thing: object) -> str:
    """The first paragraph of a thing's own docstring; "" for one that it inherits or that `dataclass` made up."""
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    made_up = inspect.isclass(thing) and (text or "").startswith(f"{thing.__name__}(")
    return "" if made_up else inspect.cleandoc(text or "").split("\n\n")[0]


def explains(text: str) -> bool:
    """A formula, or a sentence of more than two words."""
    return "=" in text or (text.endswith((".", ":")) and len(text.split()) > 2)


@pytest.mark.parametrize("name", graphnn.__all__)
def test_public_names_say_what_they_promise(name):
    assert explains(promise(getattr(graphnn, name))), f"graphnn.{name} needs a docstring"


@pytest.mark.parametrize("base", [Op, Layer], ids=["ops", "layers"])
def test_ops_and_layers_open_with_a_formula_or_a_promise(base):
    faults = [f"{kind.__module__}.{kind.__qualname__}" for kind in registered(base) if not explains(promise(kind))]
    assert not faults


def test_public_methods_are_explained():
    """Those of the classes that users hold; overriding methods are explained where they are first defined."""
    faults = []
    for name in graphnn.__all__:
        kind = getattr(graphnn, name)
        for method, value in vars(kind).items() if inspect.isclass(kind) else ():
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if method.startswith("_") or not inspect.isfunction(function):
                continue
            if not any(inspect.getdoc(vars(base)[method]) for base in kind.__mro__ if method in vars(base)):
                faults.append(f"{name}.{method}")
    assert not faults
