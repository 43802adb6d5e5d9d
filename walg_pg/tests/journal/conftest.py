"""wal-g as a command, a WAL directory with real segments, and the golden archives."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from walg_core.compression.zstd import compressor as zstd
from walg_core.pipeline.reader import BytesReader, read_all
from walg_storage_s3.testing import emulator

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def segments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ten real segments of a golden archive, decompressed. Read only: copy before changing."""
    source = GOLDEN / "pg18-zstd" / "storage" / "wal_005"
    if not source.is_dir():
        pytest.skip(f"no golden archives at {GOLDEN}")
    target = tmp_path_factory.mktemp("segments")
    for path in source.glob("*.zst"):
        (target / path.stem).write_bytes(read_all(zstd.decompress(BytesReader(path.read_bytes()))))
    return target


@pytest.fixture
def data(tmp_path: Path, segments: Path) -> Path:
    """A PGDATA with `pg_wal` of real segments and an empty `archive_status`."""
    wal = tmp_path / "data" / "pg_wal"
    shutil.copytree(segments, wal)
    (wal / "archive_status").mkdir()
    return tmp_path / "data"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `wal-g pg …` over an archive in `tmp_path/archive`; nothing of it goes on unless a test asks for that."""
    archive = tmp_path / "archive"
    archive.mkdir()
    home = tmp_path / "home"
    home.mkdir()

    quiet = {"WALG_FILE_PREFIX": str(archive), "HOME": str(home), "WALG_WAL_PUSH_AHEAD": "false"}

    def call(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("WALG_", "WALE_", "PG"))}
        return subprocess.run(
            [sys.executable, "-m", "walg_core", "pg", *arguments],
            env={**inherited, **quiet, **settings},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=tmp_path,
        )

    return call


@pytest.fixture
def s3() -> Iterator[dict[str, str]]:
    """The settings of an empty archive in an S3 server of its own."""
    with emulator() as settings:
        yield settings
