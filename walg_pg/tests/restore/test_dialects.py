"""Backups as other versions and modes of WAL-G wrote them, made from a golden archive."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from walg_core.context import Context
from walg_core.errors import WalgError
from walg_pg.restore.command import Options, fetch

FULL = "base_000000010000000000000003"
SECOND = "base_000000010000000000000006_D_000000010000000000000003"
LAST = "base_000000010000000000000008_D_000000010000000000000006"
Golden = Callable[[str], Path]
ContextOf = Callable[..., Context]


def contents(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def change(archive: Path, name: str, **values: object) -> None:
    """Replace keys of a sentinel; None removes one."""
    path = archive / "basebackups_005" / f"{name}_backup_stop_sentinel.json"
    sentinel = json.loads(path.read_bytes())
    for key, value in values.items():
        sentinel.pop(key, None)
        if value is not None:
            sentinel[key] = value
    path.write_text(json.dumps(sentinel))


def test_file_lists_inside_old_sentinels(golden: Golden, context_of: ContextOf, tmp_path: Path) -> None:
    archive = golden("pg18-zstd")
    context = context_of(archive)
    fetch(context, Options(str(tmp_path / "new"), LAST))
    for name in (FULL, SECOND, LAST):
        path = archive / "basebackups_005" / name / "files_metadata.json"
        inside = json.loads(path.read_bytes())
        change(archive, name, Files=inside["Files"], TarFileSets=inside["TarFileSets"], Version=None)
        path.unlink()
    for name, base in ((SECOND, FULL), (LAST, SECOND)):
        start = json.loads((archive / "basebackups_005" / f"{base}_backup_stop_sentinel.json").read_bytes())["LSN"]
        change(archive, name, DeltaLSN=None, DeltaFromLSN=start)
    fetch(context, Options(str(tmp_path / "old"), LAST))
    assert contents(tmp_path / "old") == contents(tmp_path / "new")


def test_wal_e_names_have_no_special_parts(golden: Golden, context_of: ContextOf, tmp_path: Path) -> None:
    archive = golden("pg18-zstd")
    context = context_of(archive)
    fetch(context, Options(str(tmp_path / "new"), FULL))
    folder, wal_e = archive / "basebackups_005", f"{FULL}_00000028"
    (folder / FULL).rename(folder / wal_e)
    (folder / f"{FULL}_backup_stop_sentinel.json").rename(folder / f"{wal_e}_backup_stop_sentinel.json")
    parts = folder / wal_e / "tar_partitions"
    (parts / "backup_label.tar.zst").rename(parts / "part_2.tar.zst")
    (parts / "pg_control.tar.zst").rename(parts / "part_3.tar.zst")
    (folder / wal_e / "files_metadata.json").unlink()
    change(archive, wal_e, Version=None, FilesMetadataDisabled=True)
    fetch(context, Options(str(tmp_path / "old"), wal_e))
    assert contents(tmp_path / "old") == contents(tmp_path / "new")


def test_without_a_file_list_the_whole_is_restored(golden: Golden, context_of: ContextOf, tmp_path: Path) -> None:
    archive = golden("pg18-zstd")
    context = context_of(archive)
    fetch(context, Options(str(tmp_path / "new"), FULL))
    (archive / "basebackups_005" / FULL / "files_metadata.json").unlink()
    change(archive, FULL, FilesMetadataDisabled=True)
    fetch(context, Options(str(tmp_path / "old"), FULL))
    assert contents(tmp_path / "old") == contents(tmp_path / "new")


def test_a_delta_without_a_file_list_is_refused(golden: Golden, context_of: ContextOf, tmp_path: Path) -> None:
    archive = golden("pg18-zstd")
    (archive / "basebackups_005" / LAST / "files_metadata.json").unlink()
    change(archive, LAST, FilesMetadataDisabled=True)
    with pytest.raises(WalgError, match="file list"):
        fetch(context_of(archive), Options(str(tmp_path / "data"), LAST))


@pytest.mark.parametrize("base", [LAST, SECOND])
def test_chains_that_never_end(golden: Golden, context_of: ContextOf, tmp_path: Path, base: str) -> None:
    archive = golden("pg18-zstd")
    change(archive, SECOND, DeltaFrom=base)
    with pytest.raises(WalgError, match="comes back"):
        fetch(context_of(archive), Options(str(tmp_path / "data"), LAST))


@pytest.mark.parametrize("name", ["../x", "a/b", "base_\n", "", "nothing"])
def test_names_from_the_command_line(golden: Golden, context_of: ContextOf, tmp_path: Path, name: str) -> None:
    with pytest.raises(WalgError):
        fetch(context_of(golden("pg18-zstd")), Options(str(tmp_path / "data"), name))


def test_user_data_chooses_the_backup(golden: Golden, context_of: ContextOf, tmp_path: Path) -> None:
    context = context_of(golden("pg18-zstd"))
    found = fetch(context, Options(str(tmp_path / "data"), target_user_data='{"note": "third", "n": 3}'))
    assert found.newest.name == LAST
    for options in (
        Options(str(tmp_path / "x"), LAST, target_user_data="1"),
        Options(str(tmp_path / "x"), target_user_data="{"),
        Options(str(tmp_path / "x"), target_user_data="5"),
        Options(str(tmp_path / "x")),
    ):
        with pytest.raises(WalgError):
            fetch(context, options)
