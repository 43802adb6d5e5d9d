"""Reading a pgBackRest repository: laid out as its documentation says, and made by the real program where it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import lz4.frame
import pytest
from walg_core.errors import EngineError, IntegrityError
from walg_pg.cluster import Cluster, find_binaries
from walg_pg.pgbackrest.repository import parse_ini

LABEL = "20261124-043102F"
SEGMENT = "000000010000000000000003"


def segment(number: int) -> bytes:
    head = (0xD110).to_bytes(2, "little") + (2).to_bytes(2, "little") + (1).to_bytes(4, "little")
    return (head + (number << 24).to_bytes(8, "little") + bytes(24)).ljust(16 << 20, b"\0")


def ini(**sections: dict[str, object]) -> str:
    out = []
    for name, rows in sections.items():
        out.append(f"[{name.replace('__', ':')}]")
        out += [f"{key}={json.dumps(value)}" for key, value in rows.items()]
    return "\n".join(out) + "\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One full backup of two files and one segment."""
    root = tmp_path / "repo"
    backup = root / "backup" / "main"
    (backup / LABEL / "pg_data" / "base").mkdir(parents=True)
    row = {"backup-type": "full", "backup-timestamp-start": 1764000000, "backup-timestamp-stop": 1764000009,
           "backup-archive-start": "000000010000000000000002"}  # fmt: skip
    (backup / "backup.info").write_text(ini(backup__current={LABEL: row}))
    manifest = ini(
        backup={"backup-label": LABEL, "backup-lsn-start": "0/2000028", "backup-lsn-stop": "0/2000100"},
        backup__db={"db-version": "15", "db-system-id": 7711590845720667390},
        backup__option={"option-compress-type": "lz4"},
        target__path={"pg_data": {}, "pg_data/base": {}, "pg_data/pg_wal": {}},
        target__path__default={"mode": "0700"},
        target__file__default={"mode": "0600"},
    )
    (backup / LABEL / "backup.manifest").write_text(manifest)
    (backup / LABEL / "pg_data" / "PG_VERSION.lz4").write_bytes(lz4.frame.compress(b"15\n"))
    (backup / LABEL / "pg_data" / "base" / "1.lz4").write_bytes(lz4.frame.compress(b"page"))
    archive = root / "archive" / "main"
    folder = archive / "15-1" / SEGMENT[:16]
    folder.mkdir(parents=True)
    (archive / "archive.info").write_text(ini(db={"db-id": 1, "db-version": "15"}))
    (folder / f"{SEGMENT}-{'a' * 40}.lz4").write_bytes(lz4.frame.compress(segment(3)))
    return root


def run(repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("WALG_", "PG"))}
    return subprocess.run(
        [sys.executable, "-m", "walg_core", "pg", "pgbackrest", *words],
        env={**inherited, "WALG_FILE_PREFIX": str(repository)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_lists(repository: Path) -> None:
    assert LABEL in run(repository, "backup-list").stdout
    rows = json.loads(run(repository, "backup-list", "--json", "--detail").stdout)
    assert rows[0]["StartLsn"] == 0x2000028
    assert rows[0]["DirectoryPaths"] == ["pg_data", "pg_data/base", "pg_data/pg_wal"]
    assert "000000010000000000000003" in run(repository, "wal-show").stdout


def test_fetches(repository: Path, tmp_path: Path) -> None:
    done = run(repository, "backup-fetch", str(tmp_path / "data"), "LATEST")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "PG_VERSION").read_bytes() == b"15\n"
    assert (tmp_path / "data" / "base" / "1").read_bytes() == b"page"
    assert (tmp_path / "data" / "pg_wal").is_dir()
    assert run(repository, "wal-fetch", SEGMENT, str(tmp_path / "S")).returncode == 0
    assert (tmp_path / "S").read_bytes() == segment(3)
    missing = run(repository, "wal-fetch", "0000000100000000000000F1", str(tmp_path / "X"))
    assert missing.returncode == 1
    assert not (tmp_path / "X").exists()


def test_a_manifest_cannot_lead_out(repository: Path, tmp_path: Path) -> None:
    path = repository / "backup" / "main" / LABEL / "backup.manifest"
    path.write_text(path.read_text().replace("pg_data/base", "pg_data/../../evil"))
    assert run(repository, "backup-fetch", str(tmp_path / "a" / "data"), LABEL).returncode == 1
    assert not (tmp_path / "evil").exists()


def test_what_cannot_be_read_is_said(repository: Path, tmp_path: Path) -> None:
    (repository / "backup" / "main" / "backup.info").write_text("[backup:current]\nnonsense\n")
    done = run(repository, "backup-list")
    assert done.returncode == 1
    assert "line 2" in done.stderr


def test_a_repository_without_a_list_has_no_backups(tmp_path: Path) -> None:
    for words in ((), ("--json",), ("--detail",)):
        done = run(tmp_path, "backup-list", *words)
        assert (done.returncode, done.stdout) == (0, "")
        assert "No backups found" in done.stderr
        assert "PGBACKREST_STANZA" in done.stderr
    assert run(tmp_path, "backup-fetch", str(tmp_path / "data"), "LATEST").returncode == 1


def test_a_listed_backup_without_its_manifest_is_an_error(repository: Path) -> None:
    (repository / "backup" / "main" / LABEL / "backup.manifest").unlink()
    assert run(repository, "backup-list", "--detail").returncode == 1


def test_ini_values_and_odd_names() -> None:
    assert parse_ini('[a]\nx=1\nfile=odd={"size":3}\ny="t"\n', "f") == {
        "a": {"x": 1, "file=odd": {"size": 3}, "y": "t"}
    }
    with pytest.raises(IntegrityError):
        parse_ini("x=1\n", "f")


@pytest.mark.services
def test_a_repository_of_the_real_program(tmp_path: Path) -> None:
    program = shutil.which("pgbackrest")
    if not program:
        pytest.skip("pgbackrest is not installed")
    try:
        binaries = find_binaries(15)
    except EngineError as error:
        pytest.skip(str(error))
    for parent in (tmp_path, *tmp_path.parents):
        if parent.name.startswith(("pytest-", "popen-", "test_")):
            parent.chmod(0o755)
    config, repo = tmp_path / "c.conf", tmp_path / "repo"
    for name in ("repo", "log", "lock"):
        (tmp_path / name).mkdir()
    words = f"{program} --config={config} --stanza=main"
    cluster = Cluster(
        tmp_path / "data",
        binaries=binaries,
        settings={"archive_mode": "on", "archive_command": f"{words} archive-push %p"},
    )
    config.write_text(
        f"[global]\nrepo1-path={repo}\nlog-path={tmp_path}/log\nlock-path={tmp_path}/lock\ncompress-type=lz4\n"
        f"start-fast=y\n[main]\npg1-path={cluster.data}\npg1-socket-path={cluster.socket_directory}\n"
        f"pg1-port={cluster.port}\npg1-user=postgres\n"
    )
    with cluster:
        cluster.own(repo, tmp_path / "log", tmp_path / "lock")
        cluster.initdb()
        cluster.start()
        prefix = cluster.command("initdb")[:-1]
        for command in (["stanza-create"], ["--type=full", "backup"]):
            subprocess.run([*prefix, *words.split(), *command], check=True, capture_output=True, timeout=120)
        cluster.query("select pg_switch_wal()")
        time.sleep(1)
    done = run(repo, "backup-fetch", str(tmp_path / "restored"), "LATEST")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "restored" / "PG_VERSION").read_text() == "15\n"
    assert (tmp_path / "restored" / "global" / "pg_control").stat().st_size == 8192
