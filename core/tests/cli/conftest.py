"""A machine of its own for every test: home, cache and plugin distributions made on the spot, commands as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

_PLUGIN = """
from walg_core.declarations import EngineType
from walg_core.hookspecs import hookimpl
from walg_core.settings.declare import Setting

@hookimpl
def walg_register_engines():
    return [EngineType(
        "NAME", title="TITLE", app="NAME.cli:app",
        cold={"log-push": "NAME.cold:log_push"},
        cold_forms={"log-push": (1, ("target-storage",), ("quiet",))},
        settings=(
            Setting("UPPER_HOST", "where the server is", default="nowhere"),
            Setting("UPPER_PORT", "its port", kind="int", default="1"),
            Setting("UPPER_PASSWORD", "its password", secret=True),
        ),
    )]
"""
_CLI = '''
import os, subprocess, sys, threading
import typer
from walg_core.errors import EngineError
from walg_core.observe import log
from NAME.cold import log_push

app = typer.Typer(help="Archive TITLE.")
group = typer.Typer(help="Inner commands.")

@app.command()
def hello(ctx: typer.Context, word: str = "hi", verify: bool = typer.Option(False, "-v")):
    """Say hello."""
    config = ctx.obj.config
    typer.echo(f"{word} {config.get('UPPER_HOST')}:{config.get('UPPER_PORT')} turbo={ctx.obj.turbo} v={verify}")

@app.command("log-push")
def log_push_command(ctx: typer.Context, path: str, target_storage: str = "", quiet: bool = False):
    """Push one log."""
    options = {"quiet": True} if quiet else {}
    raise typer.Exit(log_push(ctx.obj, [path], options))

@app.command()
def leak(ctx: typer.Context, how: str):
    """Put the password everywhere."""
    password = ctx.obj.config.get("UPPER_PASSWORD")
    log.info(f"connecting with {password}")
    log.debug(f"again {password}")
    if how == "error":
        raise EngineError(f"cannot log in with {password}", hint=f"is {password} right?")
    if how == "defect":
        raise RuntimeError(f"boom {password}")
    if how == "thread":
        def fail(): raise RuntimeError(f"boom {password}")
        worker = threading.Thread(target=fail); worker.start(); worker.join()
    if how == "stdlib":
        import logging, warnings
        logging.getLogger("driver").error("no %s", password)
        warnings.warn(f"old {password}")
    if how == "wait":
        import time
        sys.stdout.write("ready\\n"); sys.stdout.flush()
        time.sleep(30)

@app.command()
def environment(ctx: typer.Context, name: str):
    """What a child process sees."""
    typer.echo(subprocess.run(["printenv", name], capture_output=True, text=True).stdout.strip())

@group.callback()
def wide_or_not(wide: bool = typer.Option(False, "--wide")):
    """Inner commands."""

@group.command()
def inner(ctx: typer.Context):
    """A command in a group."""
    typer.echo("inner " + ctx.obj.engine)

app.add_typer(group, name="group")
'''
_COLD = """
import sys

def log_push(context, arguments, options):
    sys.stdout.write(f"pushed {arguments[0]} {sorted(options.items())} typer={'typer' in sys.modules}\\n")
    return 7 if arguments[0] == "seven" else 0
"""


class Machine:
    """`run` starts `wal-g` with nothing but what the test gave it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.site = root / "site"
        self.home.mkdir()
        self.site.mkdir()
        engines = [entry.name for entry in entry_points(group="walg.engines")]
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(root / "cache"),
            "PYTHONPATH": str(self.site),
            "WALG_FILE_PREFIX": str(root / "archive"),
            "WALG_DISABLED_PLUGINS": ",".join(engines),
        }
        (root / "archive").mkdir()

    def install(self, name: str, files: dict[str, str], entries: dict[str, dict[str, str]]) -> None:
        """A distribution called `name`: package files and entry points, as an installer leaves them."""
        for path, text in files.items():
            target = self.site / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        info = self.site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = []
        for group, members in entries.items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in members.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    def install_engine(self, name: str, title: str) -> None:
        files = {f"{name}/{file}.py": text for file, text in (("plugin", _PLUGIN), ("cli", _CLI), ("cold", _COLD))}
        files = {
            path: text.replace("NAME", name).replace("TITLE", title).replace("UPPER", name.upper())
            for path, text in files.items()
        }
        files[f"{name}/__init__.py"] = ""
        self.install(f"walg-{name}", files, {"walg.engines": {name: f"{name}.plugin"}})

    def command(self, *words: str, engine: str | None = None) -> list[str]:
        if engine is None:
            return [sys.executable, "-m", "walg_core", *words]
        script = f"from walg_core.cli.main import run; raise SystemExit(run(engine={engine!r}))"
        return [sys.executable, "-c", script, *words]

    def run(
        self, *words: str, engine: str | None = None, python: tuple[str, ...] = (), **variables: str
    ) -> subprocess.CompletedProcess[str]:
        command = self.command(*words, engine=engine)
        command[1:1] = python
        environment = {**self.environment, **variables}
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=self.root, timeout=60, check=False
        )


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    """A machine on which core alone is usable."""
    return Machine(tmp_path)


@pytest.fixture
def machine(bare: Machine) -> Machine:
    """A machine with one engine, `fakedb`."""
    bare.install_engine("fakedb", "FakeDB")
    return bare


@pytest.fixture
def two_engines(machine: Machine) -> Machine:
    """A machine with the engines `fakedb` and `otherdb`."""
    machine.install_engine("otherdb", "OtherDB")
    return machine
