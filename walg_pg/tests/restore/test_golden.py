"""Archives that Go WAL-G made come back as running clusters."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from walg_pg.cluster import Cluster, EngineError, find_binaries

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"
QUERY = (
    "select 't',count(*),md5(string_agg(id||v,',' order by id)) from t union all "
    "select 'u',count(*),md5(string_agg(id||d::text,',' order by id)) from u union all "
    "select 'w',count(*),md5(string_agg(g::text,',' order by g)) from w"
)
NAMES = [
    "LATEST",
    "base_000000010000000000000003",
    "base_000000010000000000000006_D_000000010000000000000003",
]
SETS = {
    "pg18-zstd": {},
    "pg18-lz4-libsodium": {"WALG_LIBSODIUM_KEY": "recoveryrecoveryrecoveryrecovery"},
    "pg18-brotli-pgp-waldelta": {
        "WALG_PGP_KEY_PATH": str(GOLDEN / "keys" / "private.asc"),
        "WALG_PGP_KEY_PASSPHRASE": "fixture",
    },
}
WalG = Callable[..., "subprocess.CompletedProcess[str]"]


def recovered(data: Path, settings: dict[str, str], archive: Path) -> str:
    """What the cluster answers after recovery to the end of the archived WAL."""
    try:
        binaries = find_binaries(18)
    except EngineError as error:
        pytest.skip(str(error))
    (data / "recovery.signal").touch()
    environment = {"WALG_FILE_PREFIX": str(archive), "PGDATA": str(data), **settings}
    fetch = f'{sys.executable} -m walg_core pg wal-fetch "%f" "%p"'
    cluster = Cluster(
        data,
        binaries=binaries,
        settings={"restore_command": fetch, "archive_mode": "off"},
        environment=environment,
    )
    with cluster:
        cluster.own(archive)
        cluster.start(wait_for="promoted")
        return cluster.query(QUERY, "app")


def prepare_settings(name: str) -> dict[str, str]:
    settings = {}
    for line in (GOLDEN / name / "settings.env").read_text().splitlines():
        key, _, value = line.partition("=")
        settings[key] = str(GOLDEN / value) if key.endswith("_PATH") else value
    return settings


@pytest.mark.parametrize("backup", NAMES)
def test_every_backup_recovers(golden: Callable[[str], Path], wal_g: WalG, tmp_path: Path, backup: str) -> None:
    archive = golden("pg18-zstd")
    data = tmp_path / "elsewhere" / "data"
    wal_g("backup-fetch", str(data), backup, WALG_FILE_PREFIX=str(archive))
    assert (data / "pg_tblspc" / "16384").is_symlink()
    assert (data / "pg_tblspc" / "16384").resolve().is_relative_to(data.resolve())
    assert not (data / ".walg_restore_state.json").exists()
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    assert recovered(data, {}, archive) == (GOLDEN / "pg18-zstd" / "expected.txt").read_text().strip()


@pytest.mark.parametrize("name", ["pg18-lz4-libsodium", "pg18-brotli-pgp-waldelta"])
def test_encrypted_sets_recover(golden: Callable[[str], Path], wal_g: WalG, tmp_path: Path, name: str) -> None:
    archive = golden(name)
    settings = prepare_settings(name)
    data = tmp_path / "data"
    done = wal_g("backup-fetch", str(data), "LATEST", check=False, WALG_FILE_PREFIX=str(archive), **settings)
    if "distribution" in done.stderr and "not installed" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    assert recovered(data, settings, archive) == (GOLDEN / name / "expected.txt").read_text().strip()


@pytest.mark.parametrize("name", list(SETS))
def test_lists_are_those_of_go(golden: Callable[[str], Path], wal_g: WalG, name: str) -> None:
    prefix = str(golden(name))
    text = wal_g("backup-list", "--detail", "--pretty", WALG_FILE_PREFIX=prefix).stdout
    assert text == (GOLDEN / name / "backup-list.txt").read_text()
    text = wal_g("backup-list", "--detail", "--json", WALG_FILE_PREFIX=prefix).stdout
    assert text == (GOLDEN / name / "backup-list.json").read_text()
