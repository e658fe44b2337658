"""Who may import whom, what may not be imported early, and how fast the command answers."""

from __future__ import annotations

import ast
import graphlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fmicl_text

PACKAGE = Path(fmicl_text.__file__).parent
HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "datasets",
    "scipy",
    "matplotlib",
    "pandas",
    "mteb",
    "optuna",
    "sklearn",
    "sqlalchemy",
)

# A layer knows nothing of those after it; modules of one layer may know each other. A folder stands for all in it.
LAYERS = (
    ("bars", "errors", "files", "findings", "hub_errors", "quiet", "section", "text", "versions"),
    ("core",),
    ("losses",),
    ("data", "encoders"),
    ("evaluation",),
    ("recipe",),
    ("runs",),
    ("hub",),
    ("training",),
    ("report",),
    ("sweep",),
    ("cli",),
    ("__main__",),
)

# At most four underscored names of libraries, each in one module, with a test of its signature beside that module's.
PRIVATE_NAMES = {
    "fmicl_text.training.library": {"_load_from_checkpoint"},
    "fmicl_text.training.one_gpu": {"_n_gpu"},
}


def modules() -> dict[str, ast.Module]:
    """Every module of the package by dotted name."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(file.read_text("utf-8"))
    return found


MODULES = modules()


def imports(module: str, nodes: Iterator[ast.AST] | None = None) -> set[str]:
    """Dotted names that a module imports anywhere in it, or in the given nodes."""
    names = set()
    for node in nodes or ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively; the package's style is absolute"
            children = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {child if child in MODULES else str(node.module) for child in children}
    return names


def at_import_time(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Statements that run when the module is imported: not functions, not ``if TYPE_CHECKING``."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If) and "TYPE_CHECKING" not in ast.unparse(statement.test):
            yield from at_import_time(statement.body + statement.orelse)
        elif isinstance(statement, (ast.Try, ast.With, ast.ClassDef)):
            yield from at_import_time(statement.body)


def layer(module: str) -> int:
    name = module.split(".")[1]
    return next(number for number, names in enumerate(LAYERS) if name in names)


def test_every_module_has_a_layer_and_the_root_holds_what_a_user_imports():
    at_the_root = {name.split(".")[1] for name in MODULES if name != "fmicl_text"}
    assert at_the_root == {name for names in LAYERS for name in names}


@pytest.mark.parametrize("folder", sorted({file.parent for file in PACKAGE.rglob("*.py")} - {PACKAGE}))
def test_every_folder_says_what_it_may_import(folder: Path):
    assert "import" in (ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or "")


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("fmicl_text.core")])
def test_core_imports_torch_and_the_standard_library_only(module: str):
    for name in imports(module):
        top = name.partition(".")[0]
        allowed = top == "torch" or top in sys.stdlib_module_names or name.startswith("fmicl_text.core")
        assert allowed, f"{module} imports {name}"


@pytest.mark.parametrize("module", [name for name in MODULES if name != "fmicl_text"])
def test_nothing_imports_upwards(module: str):
    for name in imports(module):
        if name.partition(".")[0] == "fmicl_text" and name != "fmicl_text":
            assert layer(name) <= layer(module), f"{module} imports {name}, which is above it"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("fmicl_text.losses.papers.")])
def test_declarations_compute_by_core(module: str):
    assert any(name.startswith("fmicl_text.core") for name in imports(module))


def test_declarations_wait_with_torch():
    code = "import sys; from fmicl_text.losses import objectives; print(len(objectives()), 'torch' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    declared = [name for name in MODULES if name.startswith("fmicl_text.losses.papers.")]
    assert finished.stdout.split() == [str(len(declared)), "False"]


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("module", MODULES)
def test_private_names_of_libraries(module: str):
    """Every other underscored name that a module uses is defined in it, or is ``_replace``, documented of tuples."""
    nodes = list(ast.walk(MODULES[module]))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and private(node.attr)]
    named = [alias.name for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names]
    imported = {part for name in (*named, *imports(module)) for part in name.split(".")}
    set_here = [node for node in attributes if isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name)]
    own = {node.attr for node in set_here if node.value.id in ("self", "cls")}
    own |= {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    used = ({node.attr for node in attributes} - own - {"_replace"}) | set(filter(private, imported))
    assert used == PRIVATE_NAMES.get(module, set())


def test_no_circles():
    graph = {}
    for module, tree in MODULES.items():
        early = imports(module, at_import_time(tree.body))
        graph[module] = {name for name in early if name in MODULES and not module.startswith(name)}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_exports_exist():
    for name in fmicl_text.__all__:
        assert getattr(fmicl_text, name) is not None
    assert {"FMICLLoss", "load_recipe"} <= set(dir(fmicl_text)) == set(fmicl_text.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Fmicl'"):
        _ = fmicl_text.Fmicl


def test_commands_import_heavy_things_when_they_run():
    verbs = [f"fmicl_text.cli.{module.name}" for module in pkgutil.iter_modules([str(PACKAGE / "cli")])]
    code = f"""
import importlib, sys
for module in {["fmicl_text", "fmicl_text.cli", *verbs]}:
    importlib.import_module(module)
    assert not (heavy := set({HEAVY}) & set(sys.modules)), f"{{module}} imports {{heavy}}"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_imports_little():
    """A tenth of a second's worth of Python's own library, 80 modules, and nothing that would have to be installed."""
    code = """
import runpy, sys
before, sys.argv = set(sys.modules), ["fmicl", "--help"]
try:
    runpy.run_module("fmicl_text", run_name="__main__")
except SystemExit as end:
    assert end.code == 0
imported = set(sys.modules) - before
foreign = {name for name in imported if name.split(".")[0] not in {*sys.stdlib_module_names, "fmicl_text"}}
assert not foreign and len(imported) < 110, sorted(foreign or imported)
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0 and "train" in finished.stdout, finished.stderr
