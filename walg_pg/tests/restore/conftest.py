"""Golden archives, and wal-g run in this process or as a command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from walg_core.cli.session import Session
from walg_core.context import Context

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"


@pytest.fixture
def golden(tmp_path: Path) -> Callable[[str], Path]:
    """A writable copy of a golden archive with its modification times."""

    def prepare(name: str) -> Path:
        source = GOLDEN / name
        if not source.is_dir():
            pytest.skip(f"no golden archives at {GOLDEN}")
        target = tmp_path / "archive"
        shutil.copytree(source / "storage", target)
        for key, stamp in json.loads((source / "mtimes.json").read_text()).items():
            os.utime(target / key, ns=(stamp, stamp))
        return target

    return prepare


@pytest.fixture
def context_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Context]]:
    """A context over a file storage, with further settings."""
    made: list[Context] = []

    def make(archive: Path, **settings: str) -> Context:
        for name in [name for name in os.environ if name.startswith(("WALG_", "WALE_", "PG"))]:
            monkeypatch.delenv(name)
        for name, value in {"WALG_FILE_PREFIX": str(archive), **settings}.items():
            monkeypatch.setenv(name, value)
        made.append(Session(["backup-list"], "pg").start())
        return made[-1]

    yield make
    for context in made:
        context.close()


@pytest.fixture
def wal_g() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `wal-g` as a user would; `check=False` to look at a failure."""

    def run(*arguments: str, check: bool = True, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("WALG_", "PG"))}
        done = subprocess.run(
            [sys.executable, "-m", "walg_core", "pg", *arguments],
            env={**environment, "TZ": "UTC", **settings},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"wal-g {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return done

    return run
