"""Partial restores, recovery targets, dry runs, verification and the restore test, on golden archives."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from walg_core.context import Context
from walg_core.errors import UsageError, WalgError
from walg_pg.catalog.verify import verify
from walg_pg.restore.command import Options, fetch, prepare
from walg_pg.restore.preview import report
from walg_pg.restore.recovery import Target
from walg_pg.restore.select import mask_filter
from walg_pg.sentinel import read_files_metadata

FULL = "base_000000010000000000000003"
SECOND = "base_000000010000000000000006_D_000000010000000000000003"
LAST = "base_000000010000000000000008_D_000000010000000000000006"
Golden = Callable[[str], Path]
ContextOf = Callable[..., Context]
WalG = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    ("mask", "name", "expected"),
    [
        ("base/1/*", "/base/1/1259", True),
        ("/base/1/*", "/base/1/1259", True),
        ("base/*", "/base/1/1259", False),
        ("base/1/12?9", "base/1/1259", True),
        ("base/1/[0-9]*", "/base/1/1259", True),
        ("base/1/[^0-9]*", "/base/1/1259", False),
        ("base/1/\\*", "/base/1/*", True),
        ("backup_label", "backup_label", True),
        ("*", "/base/1", False),
    ],
)
def test_masks(mask: str, name: str, expected: bool) -> None:
    assert mask_filter(mask)(name) is expected


@pytest.mark.parametrize("mask", ["[", "[a", "a\\"])
def test_malformed_masks(mask: str) -> None:
    with pytest.raises(UsageError):
        mask_filter(mask)


def test_a_mask_restores_what_matches(golden: Golden, context_of: ContextOf, tmp_path: Path) -> None:
    fetch(context_of(golden("pg18-zstd")), Options(str(tmp_path / "data"), LAST, mask="PG_*"))
    files = [path.name for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert files == ["PG_VERSION"]


def test_a_mask_is_ignored_where_the_backup_has_no_file_list(
    golden: Golden, context_of: ContextOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = golden("pg18-zstd")
    (archive / "basebackups_005" / FULL / "files_metadata.json").unlink()
    sentinel = archive / "basebackups_005" / f"{FULL}_backup_stop_sentinel.json"
    sentinel.write_text(json.dumps({**json.loads(sentinel.read_text()), "FilesMetadataDisabled": True}))
    context = context_of(archive)
    fetch(context, Options(str(tmp_path / "whole"), FULL))
    assert "the mask is" not in capsys.readouterr().err
    fetch(context, Options(str(tmp_path / "masked"), FULL, mask="PG_*"))
    assert "has no file list: the mask is ignored, all of it is restored" in capsys.readouterr().err
    whole, masked = (
        {path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*")} for name in ("whole", "masked")
    )
    assert whole == masked
    assert Path("global/pg_control") in masked
    with pytest.raises(UsageError, match="does not know the names of its databases"):
        fetch(context, Options(str(tmp_path / "part"), FULL, restore_only=["app"]))


def test_only_one_table_with_its_toast_and_index(golden: Golden, context_of: ContextOf, tmp_path: Path) -> None:
    archive = golden("pg18-zstd")
    key = archive / "basebackups_005" / LAST / "files_metadata.json"
    relations = read_files_metadata(key.read_bytes()).databases["app"]["tables_new"]
    table = relations["public.t"]
    data = tmp_path / "data"
    fetch(context_of(archive), Options(str(data), LAST, restore_only=["app/t"]))
    there = {path.name for path in (data / "base" / "16385").iterdir()}
    wanted = {str(table["relfilenode"])}
    for name, row in relations.items():
        if name.startswith(("public.t_", f"pg_toast.pg_toast_{table['oid']}")):
            wanted.add(str(row["relfilenode"]))
    assert wanted <= there
    others = {str(row["relfilenode"]) for name, row in relations.items() if name in ("public.u", "public.w")}
    assert not others & there
    assert (data / "base" / "1" / "1259").exists()


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["app/t", "app/w"], {"t", "w"}),
        (["app/u,app/w"], {"u", "w"}),
        (["app/(t|w)"], {"t", "w"}),
        (["*pp/[uw]*"], {"u", "w"}),
        (["app/pub*.t", '"app/public/u"'], {"t", "u"}),
    ],
)
def test_several_lists_and_expressions(
    golden: Golden, context_of: ContextOf, tmp_path: Path, texts: list[str], expected: set[str]
) -> None:
    archive = golden("pg18-zstd")
    key = archive / "basebackups_005" / LAST / "files_metadata.json"
    relations = read_files_metadata(key.read_bytes()).databases["app"]["tables_new"]
    data = tmp_path / "data"
    fetch(context_of(archive), Options(str(data), LAST, restore_only=texts))
    there = {path.name for path in data.rglob("*") if path.is_file()}
    assert {name for name in "tuw" if str(relations[f"public.{name}"]["relfilenode"]) in there} == expected


@pytest.mark.parametrize("text", ["nothing", "app/none", "app/x.none", "", "a/b/c/d", "app/["])
def test_what_matches_nothing_is_an_error(golden: Golden, context_of: ContextOf, tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        fetch(context_of(golden("pg18-zstd")), Options(str(tmp_path / "data"), LAST, restore_only=[text or ","]))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(time="2026-11-22T12:00:07.9Z"), LAST),
        (Target(time="2026-11-22 12:00:07"), SECOND),
        (Target(time="2026-11-22T15:00:05.5+03:00"), FULL),
        (Target(lsn="0/8000120"), LAST),
        (Target(lsn="0/7000000"), SECOND),
        (Target(timeline="1"), LAST),
        (Target(name="point"), LAST),
        (Target(time="2026-11-22T12:00:00Z"), None),
        (Target(lsn="0/1"), None),
        (Target(timeline="9"), None),
    ],
)
def test_the_target_chooses_the_backup(
    golden: Golden, context_of: ContextOf, tmp_path: Path, target: Target, expected: str | None
) -> None:
    context = context_of(golden("pg18-zstd"))
    options = Options(str(tmp_path / "data"), "LATEST", target=target)
    if expected is None:
        with pytest.raises(WalgError, match="no backup"):
            prepare(context, options)
        return
    assert prepare(context, options).newest.name == expected


@pytest.mark.parametrize(
    "target",
    [Target(time="x"), Target(lsn="x"), Target(xid="x"), Target(time="2026-01-01", lsn="0/1"), Target(action="x")],
)
def test_malformed_targets(golden: Golden, context_of: ContextOf, tmp_path: Path, target: Target) -> None:
    with pytest.raises(UsageError):
        prepare(context_of(golden("pg18-zstd")), Options(str(tmp_path / "data"), "LATEST", target=target))


def test_recovery_settings_replace_older_ones(golden: Golden, context_of: ContextOf, tmp_path: Path) -> None:
    context = context_of(golden("pg18-zstd"))
    data = tmp_path / "data"
    fetch(context, Options(str(data), LAST, target=Target(name="it's", action="promote")))
    text = (data / "postgresql.auto.conf").read_text()
    assert "recovery_target_name = 'it''s'\n" in text
    assert text.count("restore_command = ") == 1
    assert "wal-fetch" in text
    assert (data / "recovery.signal").exists()


def test_the_dry_run_writes_nothing_and_names_missing_wal(
    golden: Golden, context_of: ContextOf, tmp_path: Path
) -> None:
    archive = golden("pg18-zstd")
    (archive / "wal_005" / "000000010000000000000008.zst").unlink()
    context = context_of(archive)
    found = report(context, prepare(context, Options(str(tmp_path / "data"), LAST)))
    assert found["wal"]["missing"] == ["000000010000000000000008"]
    assert [each["kind"] for each in found["chain"]] == ["full", "delta", "delta"]
    assert not (tmp_path / "data").exists()


def test_restore_spec_places_tablespaces(golden: Golden, context_of: ContextOf, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    place = tmp_path / "fast disk"
    row = {"loc": str(place), "link": "pg_tblspc/16384"}
    spec.write_text(json.dumps({"16384": row, "base_prefix": "/elsewhere", "tablespaces": ["16384"]}))
    context = context_of(golden("pg18-zstd"))
    fetch(context, Options(str(tmp_path / "data"), LAST, restore_spec=str(spec)))
    assert (tmp_path / "data" / "pg_tblspc" / "16384").readlink() == place
    assert any(place.rglob("16395"))
    assert not (tmp_path / "data" / "tablespace_map").exists()
    with pytest.raises(WalgError, match="not empty"):
        fetch(context, Options(str(tmp_path / "other"), LAST, restore_spec=str(spec)))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"tablespaces": ["../../x"]},
        {"tablespaces": ["16384"], "16384": {"loc": "relative", "link": "pg_tblspc/16384"}},
        {"tablespaces": ["16384"], "16384": {"loc": "/a/../../etc", "link": "pg_tblspc/16384"}},
        {"tablespaces": ["16384"], "16384": {"loc": "/x", "link": "../16384"}},
        {"tablespaces": ["16384"], "16384": {"loc": "/x", "link": "global"}},
        {"tablespaces": ["16384"], "16384": {"loc": 5, "link": "pg_tblspc/16384"}},
        {"tablespaces": "16384"},
        {"base_prefix": None},
    ],
)
def test_hostile_tablespace_specs(
    golden: Golden, context_of: ContextOf, tmp_path: Path, change: dict[str, object]
) -> None:
    archive = golden("pg18-zstd")
    path = archive / "basebackups_005" / f"{LAST}_backup_stop_sentinel.json"
    sentinel = json.loads(path.read_bytes())
    sentinel["Spec"] = {**sentinel["Spec"], **change}
    path.write_text(json.dumps(sentinel))
    with pytest.raises(WalgError):
        fetch(context_of(archive), Options(str(tmp_path / "data"), LAST))
    assert not (tmp_path / "data").exists()


def test_a_hostile_location_is_not_used_elsewhere(golden: Golden, context_of: ContextOf, tmp_path: Path) -> None:
    archive = golden("pg18-zstd")
    victim = tmp_path / "victim"
    path = archive / "basebackups_005" / f"{LAST}_backup_stop_sentinel.json"
    path.write_text(path.read_text().replace("/var/lib/postgresql/tblspc", str(victim)))
    fetch(context_of(archive), Options(str(tmp_path / "data"), LAST))
    assert not victim.exists()


def test_verification_reads_everything_in_shares(golden: Golden, context_of: ContextOf, tmp_path: Path) -> None:
    context = context_of(golden("pg18-zstd"))
    memory = str(tmp_path / "memory.json")
    shares = [verify(context, "", "5%", memory) for _ in range(20)]
    assert all(each.ok for each in shares)
    assert shares[-1].bytes_verified == shares[-1].bytes_total
    assert shares[0].bytes_verified < shares[0].bytes_total


@pytest.mark.parametrize("what", ["part", "wal", "page"])
def test_verification_finds_damage(golden: Golden, context_of: ContextOf, tmp_path: Path, what: str) -> None:
    archive = golden("pg18-zstd")
    part = archive / "basebackups_005" / FULL / "tar_partitions" / "part_001.tar.zst"
    if what == "wal":
        (archive / "wal_005" / "000000010000000000000006.zst").unlink()
    elif what == "part":
        part.write_bytes(part.read_bytes()[:-100])
    else:
        damage_a_page(part)
    found = verify(context_of(archive), "", "all", str(tmp_path / "memory.json"))
    assert not found.ok
    expected = {"part": "part_001", "wal": "000000010000000000000006", "page": "checksums"}[what]
    assert any(expected in finding.subject + finding.message for finding in found.findings)


def damage_a_page(part: Path) -> None:
    """Flip one byte inside a heap page of pg_class, past its header, keeping the archive well-formed."""
    import zstandard

    plain = bytearray(zstandard.ZstdDecompressor().decompressobj().decompress(part.read_bytes()))
    at = plain.index(b"/base/1/1259\0") + 512
    plain[at + 8000] ^= 0xFF
    part.write_bytes(zstandard.ZstdCompressor().compress(bytes(plain)))


@pytest.mark.slow
def test_the_restore_test_reports(golden: Golden, wal_g: WalG, tmp_path: Path) -> None:
    archive = golden("pg18-zstd")
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    done = wal_g(
        "restore-test", "--json", "--database", "app", "--sql", "select count(*) = 20000 from t",
        "--directory", str(tmp_path), WALG_FILE_PREFIX=str(archive), check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)
    if "no binaries" in done.stdout:
        pytest.skip("no PostgreSQL 18 here")
    assert found["ok"], done.stdout
    assert "recover" in [step["name"] for step in found["steps"]]
    assert not Path(found["directory"]).exists()
    failing = wal_g("restore-test", "--sql", "select false", WALG_FILE_PREFIX=str(archive), check=False)
    assert failing.returncode == 1
    assert "FAILED" in failing.stdout
