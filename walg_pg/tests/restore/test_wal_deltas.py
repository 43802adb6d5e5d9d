"""Deltas built from what `wal-push` recorded: the same pages as by a scan, and the same rows after the restore."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

SUM = "select count(*), sum(n), md5(string_agg(t, ',' order by n)) from items"
MAP = {"WALG_USE_WAL_DELTA": "true"}
FORCED = {**MAP, "WALG_FORCE_WAL_DELTA": "true"}

pytestmark = pytest.mark.slow


@pytest.fixture
def recording(site: Any) -> Any:
    """The site, whose archive command records changed blocks; it stands in a group of segments recorded from its
    beginning on."""
    site.primary.extra_environment |= MAP
    site.primary.stop()
    site.primary.start()
    site.work(1)
    segments(site, 18)
    return site


def relations(data: Path) -> dict[str, str]:
    """Every file of main forks below `base`, hashed."""
    files = (path for path in data.glob("base/*/*") if path.name.replace(".", "").isdigit())
    return {str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def incremented(site: Any, name: str) -> set[str]:
    listed = json.loads((site.archive / "basebackups_005" / name / "files_metadata.json").read_bytes())["Files"]
    return {path for path, row in listed.items() if row["IsIncremented"]}


def segments(site: Any, count: int) -> None:
    """So many segments of WAL, with changes in each."""
    for turn in range(count):
        site.primary.query(f"update items set t = t || '.' where n % 97 = {turn % 97}")
        site.primary.query("select pg_switch_wal()")


def test_the_map_gives_what_a_scan_gives(recording: Any, tmp_path: Path) -> None:
    site = recording
    full = site.push("--full")
    site.work(2)
    segments(site, 36)
    for statement in (
        "create table shrinking as select * from items",
        "delete from shrinking where n > 10500",
        "vacuum shrinking",
        "create index on items (n)",
        "truncate extra1",
        "vacuum freeze",
        "checkpoint",
    ):
        site.primary.query(statement)
    site.flush()
    assert len(list((site.archive / "wal_005").glob("*_delta*"))) >= 2
    mapped = site.push(**FORCED)
    scanned = site.push("--delta-from-name", full)
    whole = site.push("--full")
    assert mapped.endswith(full[5:29])
    assert scanned.endswith(full[5:29])
    assert incremented(site, mapped)
    trees = {}
    for name in (mapped, scanned, whole):
        site.wal_g("backup-fetch", str(tmp_path / name), name)
        trees[name] = relations(tmp_path / name)
    # Nothing was written between the three, not even a hint bit, so every page must be the same.
    assert trees[mapped] == trees[whole]
    assert trees[scanned] == trees[whole]


def test_a_chain_of_recorded_deltas_recovers(recording: Any, tmp_path: Path) -> None:
    site = recording
    site.push("--full")
    for number in range(2, 6):
        site.work(number)
        segments(site, 9)
        site.flush()
        site.push(**FORCED)
    site.work(6)
    expected = site.primary.query(SUM)
    site.flush()
    site.wal_g("backup-fetch", str(tmp_path / "restored"), "LATEST")
    with site.recovered("restored") as restored:
        assert restored.query(SUM) == expected
        restored.run("pg_amcheck", "--all", "--install-missing", "--heapallindexed")
        restored.stop()
        restored.run("pg_checksums", "--check", "-D", str(restored.data))


def test_a_gap_in_the_records_is_noticed(recording: Any) -> None:
    site = recording
    site.push("--full")
    segments(site, 36)
    site.flush()
    gone = sorted((site.archive / "wal_005").glob("*_delta*"))[-1]
    gone.unlink()
    done = site.run(
        "backup-push",
        str(site.primary.data),
        check=False,
        **{**site.settings, **site.primary.client_environment(), **FORCED},
    )
    assert done.returncode == 1
    assert "WALG_FORCE_WAL_DELTA forbids a scan" in done.stderr
    site.push(**MAP)
