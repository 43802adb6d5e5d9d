"""The cold path: the same function without the application's imports, and the cache of the catalogue (design 6)."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from walg_core.declarations import EngineType
from walg_core.discovery import discover

FORBIDDEN = frozenset(
    [
        "asyncio",
        "collections",
        "concurrent.futures",
        "dataclasses",
        "email",
        "fsspec",
        "importlib.metadata",
        "inspect",
        "json",
        "logging",
        "pluggy",
        "pydantic",
        "pydantic_settings",
        "re",
        "rich",
        "subprocess",
        "tempfile",
        "typer",
        "typing",
        "urllib",
        "yaml",
    ]
)


def imported(machine, *words: str, engine: str | None = None, **variables: str) -> set[str]:
    """The modules that a command imports beyond a bare interpreter."""

    def modules(text: str) -> set[str]:
        return {line.rpartition("|")[2].strip() for line in text.splitlines() if line.startswith("import time:")}

    bare = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "pass"],
        capture_output=True, text=True, env=machine.environment, check=True,
    )  # fmt: skip
    machine.run(*words, engine=engine, **variables)
    done = machine.run(*words, engine=engine, python=("-X", "importtime"), **variables)
    return modules(done.stderr) - modules(bare.stderr)


def forbidden(modules: set[str], allowed: tuple[str, ...] = ()) -> list[str]:
    return sorted(name for name in modules if name in FORBIDDEN and name not in allowed)


def test_a_cold_command_imports_nothing_that_costs(machine) -> None:
    modules = imported(machine, "log-push", "x", "--target-storage", "default", "--fakedb-host", "h", "--turbo")
    assert "fakedb.cold" in modules
    assert forbidden(modules) == []
    assert "fakedb.plugin" not in modules


@pytest.mark.parametrize(
    ("name", "text", "parser"),
    [
        (".walg.json", '{"FAKEDB_HOST": "file"}', "json"),
        (".walg.yaml", "FAKEDB_HOST: file", "yaml"),
        (".walg.toml", 'FAKEDB_HOST = "file"', "tomllib"),
        (".walg.env", "FAKEDB_HOST=file", None),
    ],
)
def test_a_configuration_file_brings_only_its_own_parser(machine, name, text, parser) -> None:
    (machine.home / name).write_text(text)
    modules = imported(machine, "log-push", "x")
    assert "fakedb.cold" in modules
    assert "typer" not in modules
    if parser in ("json", None):
        assert forbidden(modules, ("json", "re") if parser else ()) == []
    assert parser is None or parser in modules


COLD = [
    (entry.name, command, form)
    for entry in entry_points(group="walg.engines")
    for engine in [discover().engines.get(entry.name)]
    if isinstance(engine, EngineType)
    for command, form in engine.cold_forms.items()
]


@pytest.mark.parametrize(("engine", "command", "form"), COLD, ids=[f"{name}-{command}" for name, command, _ in COLD])
def test_every_installed_engine_keeps_to_it(bare, engine, command, form) -> None:
    """Each cold command of each installed engine, on local storage, with the name of a file that engines archive."""
    machine = bare
    del machine.environment["WALG_DISABLED_PLUGINS"]
    file = machine.root / "00000002.history"
    file.write_text("1\t0/3000000\tno recovery target specified\n")
    words = [str(file) if "push" in command else file.name, str(machine.root / "fetched")]
    modules = imported(machine, command, *words[: form[0]], engine=engine)
    assert forbidden(modules) == []
    assert discover().engines[engine].cold[command].partition(":")[0] in modules


@pytest.mark.parametrize(
    "words", [["log-push", "--help"], ["log-push", "x", "--unknown"], ["log-push", "x", "y"], ["log-push"], ["hello"]]
)
def test_anything_unusual_falls_through(machine, words) -> None:
    assert "typer" in imported(machine, *words)


def test_both_ways_run_the_same_function(machine) -> None:
    cold = machine.run("log-push", "x", "--quiet")
    warm = machine.run("log-push", "x", "--quiet", HTTP_LISTEN="127.0.0.1:0")
    assert cold.stdout == "pushed x [('quiet', True)] typer=False\n"
    assert warm.stdout == "pushed x [('quiet', True)] typer=True\n"
    assert machine.run("log-push", "seven").returncode == 7
    assert machine.run("log-push", "seven", HTTP_LISTEN="127.0.0.1:0").returncode == 7


def test_the_cache_is_private_and_found_stale(machine) -> None:
    os.umask(0)
    try:
        machine.run("log-push", "x")
    finally:
        os.umask(0o022)
    directory = machine.root / "cache" / "wal-g"
    (cache,) = directory.iterdir()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert cache.stat().st_mode & 0o777 == 0o600
    plugin = machine.site / "fakedb" / "plugin.py"
    plugin.write_text(plugin.read_text().replace('default="nowhere"', 'default="elsewhere"'))
    assert "elsewhere" in machine.run("hello").stdout
    machine.install_engine("otherdb", "OtherDB")
    assert "OtherDB" in machine.run("--version").stdout


@pytest.mark.parametrize("damage", [b"", b"\x00" * 3, b"garbage" * 99, None])
def test_a_corrupt_cache_is_made_again(machine, damage) -> None:
    machine.run("log-push", "x")
    (cache,) = (machine.root / "cache" / "wal-g").iterdir()
    good = cache.read_bytes()
    cache.write_bytes(good[: len(good) // 2] + b"!" + good[len(good) // 2 + 1 :] if damage is None else damage)
    done = machine.run("log-push", "x")
    assert (done.returncode, done.stderr) == (0, "")
    assert cache.read_bytes() == good


def test_a_cache_that_others_may_write_is_not_believed(machine) -> None:
    machine.run("log-push", "x")
    (cache,) = (machine.root / "cache" / "wal-g").iterdir()
    cache.chmod(0o666)
    assert machine.run("log-push", "x").returncode == 0
    assert cache.stat().st_mode & 0o777 == 0o600


def test_an_unwritable_cache_is_no_error(machine) -> None:
    (machine.root / "cache").write_text("a file stands in the way")
    done = machine.run("log-push", "x")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cold_command_loads_few_modules(machine) -> None:
    """Each costs 0.2 to 1 ms; with 34 of them a cold command took 20 ms longer than `python -c pass`."""
    assert len(imported(machine, "log-push", "x")) <= 40
