"""backup-fetch with stand-ins for the tools: what runs, in which order, and what must not be taken for a success."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from walg_core.backups.catalog import SENTINEL_SUFFIX

STEPS = {"WALG_DELTA_MAX_STEPS": "5"}
INSIDE = ["--use-xbtool-extract"]


def chain(standin: Any, count: int = 3) -> list[str]:
    for number in range(count):
        standin.run("xtrabackup-push", "--full=false", FAKE_LSN=str(1000 + number), FAKE_SIZE="1000", **STEPS)
    names: list[str] = standin.names()
    return names


def change(standin: Any, name: str, **values: Any) -> None:
    path: Path = standin.archive / f"basebackups_005/{name}{SENTINEL_SUFFIX}"
    document = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in document.items() if value != "gone"}))


def calls(standin: Any) -> list[str]:
    """The prepare commands; temporary directories as TMP."""
    found = standin.calls.read_text() if standin.calls.exists() else ""
    place = re.escape(str(standin.path / "increments"))
    return [
        line.replace(str(standin.restored), "R") for line in re.sub(place + r"/wal-g\w+", "TMP", found).splitlines()
    ]


@pytest.mark.parametrize("words", [[], INSIDE])
def test_a_chain_is_restored_parents_first(standin: Any, words: list[str]) -> None:
    names = chain(standin)
    standin.run("backup-fetch", "LATEST", *words)
    assert calls(standin) == [
        "prepare --target-dir=R --apply-log-only",
        "prepare --target-dir=R --incremental-dir=TMP --apply-log-only",
        "from 1000 to 1001 fr",
        "prepare --target-dir=R --incremental-dir=TMP",
        "from 1001 to 1002 fr",
    ]
    assert (standin.restored / "ibdata1").read_bytes().startswith(b"from 0 to 1000")
    assert not list((standin.path / "increments").iterdir())
    standin.calls.unlink()
    for path in (standin.restored / "ibdata1",):
        path.unlink()
    standin.run("backup-fetch", names[0], *words)
    assert calls(standin) == ["prepare --target-dir=R"]


def test_mariabackup_gets_no_apply_log_only(standin: Any) -> None:
    chain(standin, 2)
    standin.run("backup-fetch", "LATEST", WALG_MYSQL_BACKUP_PREPARE_COMMAND="mariabackup --prepare")
    assert calls(standin) == [
        "mariabackup --prepare",
        "mariabackup --prepare --incremental-dir=TMP",
        "from 1000 to 1001 fr",
    ]


def test_commands_may_ask_for_their_values_by_name(standin: Any) -> None:
    chain(standin, 2)
    standin.run(
        "backup-fetch",
        "LATEST",
        WALG_STREAM_RESTORE_COMMAND=f"unpack -C ${{WALG_MYSQL_RESTORE_DIR:-{standin.restored}}} && true",
        WALG_MYSQL_BACKUP_PREPARE_COMMAND="prepare $WALG_MYSQL_PREPARE_OPTIONS --last",
    )
    assert [line for line in calls(standin) if line.startswith("prepare")] == [
        "prepare --apply-log-only --last",
        "prepare --incremental-dir=TMP --last",
    ]


def test_the_parent_that_the_original_misnamed_is_found(standin: Any) -> None:
    names = chain(standin, 3)
    # With LATEST_FULL the original names the latest increment although the pages count from the full backup.
    change(standin, names[2], DeltaLSN=1000)
    standin.run("backup-fetch", names[2])
    assert sum(line.startswith("prepare") for line in calls(standin)) == 2
    change(standin, names[2], DeltaLSN=77)
    (standin.restored / "ibdata1").unlink()
    standin.calls.unlink()
    _, said = standin.run("backup-fetch", names[2], status=1)
    assert "begins at LSN 77" in said
    assert calls(standin) == []


@pytest.mark.parametrize("words", [[], INSIDE])
def test_nothing_runs_when_a_parent_is_missing(standin: Any, words: list[str]) -> None:
    names = chain(standin, 3)
    (standin.archive / f"basebackups_005/{names[1]}{SENTINEL_SUFFIX}").unlink()
    _, said = standin.run("backup-fetch", names[2], *words, status=1)
    assert f"backup {names[1]}, which {names[2]} builds on, does not exist" in said
    assert not list(standin.restored.iterdir())
    change(standin, names[2], DeltaFrom="gone")
    _, said = standin.run("backup-fetch", names[2], *words, status=1)
    assert "does not tell what it builds on" in said
    change(standin, names[2], DeltaFrom=names[2], DeltaLSN=1002)
    _, said = standin.run("backup-fetch", names[2], *words, status=1)
    assert "circle" in said


def test_increments_need_a_prepare_command(standin: Any) -> None:
    chain(standin, 2)
    _, said = standin.run("backup-fetch", "LATEST", status=1, WALG_MYSQL_BACKUP_PREPARE_COMMAND="")
    assert "WALG_MYSQL_BACKUP_PREPARE_COMMAND is not set" in said
    assert not list(standin.restored.iterdir())


def test_a_failing_prepare_is_a_failed_restore(standin: Any) -> None:
    chain(standin, 2)
    _, said = standin.run("backup-fetch", "LATEST", status=1, FAKE_PREPARE_FAILS="1")
    assert "log is corrupt" in said
    assert not (standin.path / "increments").exists() or not list((standin.path / "increments").iterdir())


@pytest.mark.parametrize("words", [[], INSIDE])
@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_object_is_never_a_success(standin: Any, words: list[str], cut: bool) -> None:
    (name,) = chain(standin, 1)
    path = standin.archive / f"basebackups_005/{name}/stream.zst"
    data = path.read_bytes()
    path.write_bytes(data[:-20] if cut else data[:50] + bytes([data[50] ^ 1]) + data[51:])
    standin.run("backup-fetch", name, *words, status=1)
    assert calls(standin) == []


@pytest.mark.parametrize("words", [[], INSIDE])
def test_a_stream_shorter_than_its_sentinel_says_is_an_error(standin: Any, words: list[str]) -> None:
    (name,) = chain(standin, 1)
    change(standin, name, UncompressedSize=10**6)
    _, said = standin.run("backup-fetch", name, *words, status=1)
    assert "its sentinel says 1000000" in said
    assert calls(standin) == []


def test_a_used_data_directory_is_refused(standin: Any) -> None:
    chain(standin, 1)
    (standin.restored / "ib_logfile0").write_bytes(b"old")
    _, said = standin.run("backup-fetch", "LATEST", *INSIDE, status=1)
    assert "holds a server's data already" in said
    assert [path.name for path in standin.restored.iterdir()] == ["ib_logfile0"]
    _, said = standin.run("backup-fetch", "LATEST", *INSIDE, status=1, WALG_MYSQL_DATA_DIR="")
    assert "WALG_MYSQL_DATA_DIR" in said


def test_which_backup_must_be_said_once(standin: Any) -> None:
    chain(standin, 1)
    assert "insufficient" in standin.run("backup-fetch", status=1)[1]
    assert "not both" in standin.run("backup-fetch", "LATEST", "--target-user-data", "1", status=1)[1]
    assert "does not exist" in standin.run("backup-fetch", "stream_20200101T000000Z", status=1)[1]


def test_the_hidden_tool_unpacks_a_file(standin: Any) -> None:
    chain(standin, 1)
    file = standin.path / "stream"
    standin.run("get-stream", "LATEST", str(file))
    target = standin.path / "by hand"
    standin.run("xb", "extract", str(file), "--data-dir", str(target), "--decompress")
    assert (target / "shop/t.ibd").read_bytes() == b"t" * 1000
    file.write_bytes(file.read_bytes()[:-1])
    _, said = standin.run("xb", "extract", str(file), "--data-dir", str(target), status=1)
    assert "cut" in said
    _, said = standin.run("xb", "extract-diff", str(file), "--data-dir", str(target), status=1)
    assert "--incremental-dir is missing" in said
