"""Command lines without a meaning: status and stream are those of the original's programs, engine by engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from walg_core.cli.main import run

ENGINES = ("pg", "mysql", "redis", "etcd", "fdb")


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("WALG_", "PG"))]:
        monkeypatch.delenv(name)
    (tmp_path / "archive").mkdir()
    monkeypatch.setenv("WALG_FILE_PREFIX", str(tmp_path / "archive"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "line", ["delete nonsense", "delete nonsense --confirm", "st nonsense", "st check nonsense x", "help st nonsense"]
)
def test_a_word_that_a_group_does_not_know_shows_its_help(
    engine: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line.split(), engine=engine) == 0
    shown = capsys.readouterr()
    assert 'unknown command "nonsense"' in shown.out
    assert "Usage: " in shown.out
    assert shown.err == ""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "--nope",
        "delete --nope",
        "delete nonsense --nope",
        "delete before",
        "delete retain",
        "delete everything X",
        "delete target",
        "st --nope",
        "st ls a b",
        "st put a b c",
        "st check write a",
        "backup-list a",
        "backup-fetch a b c",
    ],
)
def test_a_usage_error_gives_1_and_is_on_both_streams(
    engine: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line.split(), engine=engine) == 1
    shown = capsys.readouterr()
    assert shown.out.strip()
    assert shown.err.startswith(f"Error: {shown.out.splitlines()[0]}")


@pytest.mark.parametrize("line", ["backup-push nowhere", "catchup-push nowhere", "catchup-receive nowhere 7000"])
def test_a_directory_that_is_none_is_no_usage_error(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split(), engine="pg") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "ERROR: " in shown.err


@pytest.mark.parametrize("line", ["pgbackrest nonsense", "delete --confirm", "delete --use-sentinel-time nonsense"])
def test_groups_of_postgresql(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split(), engine="pg") == 0
    shown = capsys.readouterr()
    assert "Usage: " in shown.out
    assert shown.err == ""


def test_wal_show_says_that_there_are_no_backups(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["wal-show"], engine="pg") == 0
    assert "No backups found in storage." in capsys.readouterr().err
