"""The walls between the packages that import-linter cannot express: who renames, prints, exits, reaches into core."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for pattern in ("core/src", "walg_*/src", "plugins/*/src")
    for source in ROOT.glob(pattern)
    for path in source.rglob("*.py")
)
PACKAGES = sorted({path.relative_to(ROOT).parts[0] for path in SOURCES} - {"plugins"})
_DURABLE = {"rename", "replace", "renames", "fsync", "fdatasync"}
_STREAMS = {"stdout", "stderr"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return ".".join(parts[parts.index("src") + 1 :]).removesuffix(".py")


def trees(*, without: str = "(?!)") -> Iterator[tuple[Path, ast.Module]]:
    for path in SOURCES:
        if not re.search(without, module_of(path)):
            yield path, ast.parse(path.read_text(), filename=str(path))


def dotted(node: ast.AST) -> str:
    """`os.path.join` of an attribute chain, "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def calls(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := dotted(node.func)):
            yield name, node.lineno


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 50
    assert "core" in PACKAGES


def test_only_io_renames_and_syncs() -> None:
    wrong = [
        f"{name_of(path)}:{line}: {name}"
        for path, tree in trees(without=r"^walg_core\.io\.")
        for name, line in calls(tree)
        if name in {f"os.{each}" for each in _DURABLE} | {"shutil.move"}
    ]
    assert wrong == []


def test_only_command_lines_print_and_exit() -> None:
    """`cli`, the scripts (a client is one), and the test kit may."""
    allowed = r"(^|\.)(cli|script|__main__)(\.|$)|^walg_core\.testing\.|\.cluster$|\.client$"
    wrong = [
        f"{name_of(path)}:{line}: {name}"
        for path, tree in trees(without=allowed)
        for name, line in calls(tree)
        if name in ("print", "exit", "quit", "sys.exit")
    ]
    assert wrong == []


def test_plugins_use_public_names_only() -> None:
    wrong = []
    for path, tree in trees(without=r"^walg_core\."):
        own = module_of(path).partition(".")[0]
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("walg_"):
                continue
            names = [*(node.module or "").split(".")[1:], *(alias.name for alias in node.names)]
            if not (node.module or "").startswith(own) and any(n.startswith("_") and n != "__version__" for n in names):
                wrong.append(f"{name_of(path)}:{node.lineno}: {node.module} {names}")
    assert wrong == []


def test_core_names_no_database() -> None:
    """No import, and no word in code, of an engine; the file formats' fixed names are facts and stay in engines."""
    words = re.compile(
        r"\b(postgres\w*|mysql|mariadb|mongo\w*|redis|sqlserver|foundationdb|greenplum|walg_(pg|gp))\b", re.I
    )
    wrong = []
    for path, tree in trees(without=r"^(?!walg_core\.)"):
        documentation = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            text = ""
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                text = node.value
            elif isinstance(node, (ast.Name, ast.FunctionDef, ast.ClassDef)):
                text = node.id if isinstance(node, ast.Name) else node.name
            elif isinstance(node, ast.ImportFrom):
                text = node.module or ""
            if words.search(text):
                wrong.append(f"{name_of(path)}:{node.lineno}: {text[:60]!r}")
    assert wrong == []


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_files_and_functions_stay_small() -> None:
    wrong = []
    for path, tree in trees():
        lines = path.read_text().count("\n")
        if lines >= 500:
            wrong.append(f"{name_of(path)}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                inner = [each for each in node.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]
                length = lines_of(node) - sum(map(lines_of, inner))
                if length >= 60:
                    wrong.append(f"{name_of(path)}:{node.lineno}: {node.name} has {length} lines")
    assert wrong == []


def test_nothing_is_left_for_later() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    wrong = [name_of(path) for path in SOURCES if words.search(path.read_text()) or path.name == "utils.py"]
    assert wrong == []


def test_no_failure_is_swallowed() -> None:
    """`except Exception` (or wider) with nothing but `pass` in it."""
    wrong = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                wide = node.type is None or dotted(node.type) in ("Exception", "BaseException")
                if wide and all(isinstance(each, ast.Pass) for each in node.body):
                    wrong.append(f"{name_of(path)}:{node.lineno}")
    assert wrong == []


def test_a_distribution_imports_only_what_it_depends_on() -> None:
    """Of ours: core imports no other; an engine or plugin core, itself, and what its `pyproject.toml` names."""
    wrong = []
    for path, tree in trees():
        project = next(parent for parent in path.parents if (parent / "pyproject.toml").exists())
        own = module_of(path).partition(".")[0]
        named = tomllib.loads((project / "pyproject.toml").read_text())["project"].get("dependencies", [])
        allowed = {own} | {re.split(r"[^a-z0-9-]", each)[0].replace("-", "_") for each in named}
        for node in ast.walk(tree):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                package = module.partition(".")[0]
                if package.startswith("walg_") and package not in allowed:
                    wrong.append(f"{name_of(path)}:{node.lineno}: {module}")
    assert wrong == []


@pytest.mark.parametrize("package", sorted({module_of(path).partition(".")[0] for path in SOURCES}))
def test_every_distribution_is_typed(package: str) -> None:
    (initial,) = [path for path in SOURCES if module_of(path) == f"{package}.__init__"]
    assert (initial.parent / "py.typed").exists()
