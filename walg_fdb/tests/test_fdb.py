"""The whole command line of the FoundationDB engine, with stand-ins for fdbbackup and fdbrestore.

No FoundationDB server is to be had from a package registry: the scripts below do what the documented commands do
with their directories, in success and in failure.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BACKUP = """#!/bin/sh
# fdbbackup start -d file://DIR -w: makes a directory of range files in DIR.
dir=${3#file://}/backup-2026-11-24-04-00-00.123456
mkdir -p "$dir/kvranges" "$dir/properties"
[ -z "$FAKE_HALF" ] || { head -c 1000 "$FAKE_DATABASE" > "$dir/kvranges/range,1"; echo "half done" >&2; kill -9 $$; }
cp "$FAKE_DATABASE" "$dir/kvranges/range,1"
echo 1 > "$dir/properties/log_begin_version"
echo "The backup on tag \\`default' was successfully submitted." >&2
[ -z "$FAKE_SLEEP" ] || sleep "$FAKE_SLEEP"
[ -z "$FAKE_FAIL" ] || { echo "ERROR: Backup error: no agents" >&2; exit 1; }
"""
RESTORE = """#!/bin/sh
# fdbrestore start -r file://DIR -w --dest_cluster_file FILE
dir=${3#file://}
cat "$dir/kvranges/range,1" > "$6"
echo "Restored to version 1" >&2
[ -z "$FAKE_FAIL" ] || exit 1
"""
CREATE = 'd=$(mktemp -d) && fdbbackup start -d "file://$d" -w 1>&2 && tar -c -C "$d" .'
FETCH = (
    'd=$(mktemp -d) && tar -x -f - -C "$d" && '
    'fdbrestore start -r "file://$d/$(ls "$d")" -w --dest_cluster_file "$FAKE_RESTORED" 1>&2'
)


class Field:
    """A place with stand-ins on its PATH; `run` runs the engine's own script."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "database"
        self.database.write_bytes(os.urandom(200_000))
        self.restored = path / "restored"
        tools = path / "bin"
        tools.mkdir()
        for name, text in (("fdbbackup", BACKUP), ("fdbrestore", RESTORE)):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        (path / "tmp").mkdir()
        self.environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(path),
            "TMPDIR": str(path / "tmp"),
            "WALG_FILE_PREFIX": str(path / "archive"),
            "WALG_STREAM_CREATE_COMMAND": CREATE,
            "WALG_STREAM_RESTORE_COMMAND": FETCH,
            "FAKE_DATABASE": str(self.database),
            "FAKE_RESTORED": str(self.restored),
        }
        (path / "archive").mkdir()

    def start(self, *words: str, **more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", "from walg_fdb.script import main; main()", *words],
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, status: int = 0, **more: str) -> tuple[str, str]:
        process = self.start(*words, **more)
        out, err = process.communicate(timeout=180)
        assert process.returncode == status, err
        return out, err

    def names(self) -> list[str]:
        return [line.split()[0] for line in self.run("backup-list")[0].splitlines()[1:]]

    def objects(self) -> list[Path]:
        return [path for path in (self.path / "archive").rglob("*") if path.is_file()]


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path)


def test_cycle(field: Field) -> None:
    _, err = field.run("backup-push")
    assert "successfully submitted" in err
    assert "FILE PATH: stream_" in err
    (name,) = field.names()
    sentinel = json.loads((field.path / f"archive/basebackups_005/{name}_backup_stop_sentinel.json").read_text())
    assert list(sentinel) == ["StartLocalTime"]
    field.run("backup-fetch", "LATEST")
    assert field.restored.read_bytes() == field.database.read_bytes()
    _, err = field.run("backup-fetch", "stream_20000101T000000Z", status=1)
    assert "Backup 'stream_20000101T000000Z' does not exist." in err
    _, err = field.run("backup-fetch", name, status=1, FAKE_FAIL="1")
    assert "Restored to version 1" in err
    assert "restore command failed: exit status 1" in err


def test_failures_leave_nothing(field: Field) -> None:
    _, err = field.run("backup-push", status=1, FAKE_FAIL="1")
    assert "Backup error: no agents" in err
    assert "WALG_STREAM_CREATE_COMMAND" in err
    _, err = field.run("backup-push", status=1, WALG_STREAM_CREATE_COMMAND="head -c 3000000 /dev/zero; exit 9")
    assert "exit status 9" in err
    assert field.objects() == []
    assert field.names() == []


@pytest.mark.parametrize(
    ("command", "match"),
    [
        (CREATE, "killed by SIGKILL|exit status 137"),
        ("head -c 100000 /dev/urandom; kill -9 $$", "killed by SIGKILL"),
        ("head -c 9000000 /dev/zero; kill -TERM $$", "killed by SIGTERM"),
        ("head -c 9000000 /dev/zero | (head -c 100; exit 7)", "exit status 7"),
        ("tar -c -C /no/such/directory .", "exit status 2"),
        ("seq 100000 >&2; echo last words >&2; exit 1", "last words"),
    ],
)
def test_a_create_command_that_breaks_off_lists_nothing(field: Field, command: str, match: str) -> None:
    _, err = field.run("backup-push", status=1, WALG_STREAM_CREATE_COMMAND=command, FAKE_HALF="1")
    assert re.search(match, err)
    assert field.objects() == []


@pytest.mark.parametrize(
    "command", [f"{CREATE} && echo 'the tar is in' >&2", "for i in 1 2 3; do echo $i; sleep 0.1; done"]
)
def test_a_slow_create_command_is_waited_for(field: Field, command: str) -> None:
    field.run("backup-push", WALG_STREAM_CREATE_COMMAND=command, FAKE_SLEEP="1")
    (name,) = field.names()
    restore = FETCH if "fdbbackup" in command else 'cat > "$FAKE_RESTORED"'
    field.run("backup-fetch", name, WALG_STREAM_RESTORE_COMMAND=restore)
    held = field.database.read_bytes() if "fdbbackup" in command else b"1\n2\n3\n"
    assert field.restored.read_bytes() == held


def wait_for(path: Path) -> None:
    until = time.monotonic() + 180
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_killed_push_lists_nothing_and_the_next_one_succeeds(field: Field) -> None:
    running = field.path / "running"
    command = f"head -c 3000000 /dev/urandom; echo $$ > {running}.part; mv {running}.part {running}; sleep 600"
    push = field.start("backup-push", WALG_STREAM_CREATE_COMMAND=command)
    wait_for(running)
    push.kill()
    push.communicate(timeout=180)
    os.killpg(int(running.read_text()), signal.SIGKILL)
    assert field.names() == []
    field.run("backup-push")
    field.run("backup-fetch", "LATEST")
    assert field.restored.read_bytes() == field.database.read_bytes()
    field.run("delete", "garbage", "--confirm")
    assert len(field.names()) == 1


@pytest.mark.parametrize(
    ("command", "match"),
    [
        ("head -c 1000 > /dev/null", "before it had read the whole backup"),
        ("exit 0", "before it had read the whole backup"),
        ("cat > /dev/null; exit 5", "exit status 5"),
        ("head -c 1000 > /dev/null; kill -9 $$", "killed by SIGKILL|before it had read"),
    ],
)
def test_a_restore_command_that_breaks_off_is_an_error(field: Field, command: str, match: str) -> None:
    field.run("backup-push", WALG_STREAM_CREATE_COMMAND="head -c 5000000 /dev/urandom")
    _, err = field.run("backup-fetch", "LATEST", status=1, WALG_STREAM_RESTORE_COMMAND=command)
    assert re.search(match, err)


def test_a_killed_fetch_restores_nothing(field: Field) -> None:
    """tar sees its input end inside a file, so the restore behind it is never begun."""
    field.database.write_bytes(os.urandom(20_000_000))
    field.run("backup-push")
    running = field.path / "running"
    command = f"(head -c 1000000; touch {running}; while [ ! -e {running}.go ]; do sleep 0.1; done; cat) | ({FETCH}"
    command += f" ; echo $? > {running}.part; mv {running}.part {running}.end)"
    fetch = field.start("backup-fetch", "LATEST", WALG_STREAM_RESTORE_COMMAND=command)
    wait_for(running)
    fetch.kill()
    fetch.communicate(timeout=180)
    (field.path / "running.go").touch()
    wait_for(field.path / "running.end")
    assert (field.path / "running.end").read_text() != "0\n"
    assert not field.restored.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interruption_leaves_nothing(field: Field, number: int) -> None:
    command = f"head -c 1000000 /dev/urandom; touch {field.path}/running; sleep 60; echo not reached"
    process = field.start("backup-push", WALG_STREAM_CREATE_COMMAND=command)
    wait_for(field.path / "running")
    process.send_signal(number)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "interrupted" in err
    assert field.objects() == []


def test_deletion_and_marks(field: Field) -> None:
    for _ in range(3):
        field.run("backup-push")
    first, second, third = field.names()
    field.run("backup-mark", first)
    _, err = field.run("delete", "retain", "1")
    assert "Dry run: objects would be deleted count=2" in err
    assert field.names() == [first, second, third]
    _, err = field.run("delete", "--confirm", "before", third)
    assert "Objects deleted successfully: count=2" in err
    assert field.names() == [first, third]
    _, err = field.run("delete", "target", first, "--confirm", status=1)
    assert f"Unable to delete permanent backup {first}" in err
    _, err = field.run("delete", "everything", "--confirm", status=1)
    assert f"Found permanent backups=[{first}]" in err
    _, err = field.run("delete", "retain", "5", "--confirm")
    assert "No backup found for deletion" in err
    field.run("delete", "everything", "FORCE", "--confirm")
    assert field.objects() == []


def test_argument_errors(field: Field) -> None:
    for words in (("retain", "0"), ("retain",), ("retain", "FUL", "1"), ("before",), ("before", "FULL", "x")):
        _, err = field.run("delete", *words, "--confirm", status=1)
        assert "Error: " in err or "ERROR: " in err
    out, _ = field.run("delete")
    assert "retain" in out


def test_settings_are_named(field: Field) -> None:
    _, err = field.run("backup-push", status=1, WALG_STREAM_CREATE_COMMAND="")
    assert "WALG_STREAM_CREATE_COMMAND" in err
    _, err = field.run("backup-push", status=1, WALG_STREAM_CREATE_COMMAND="fdbbakup start")
    assert "was not found: check PATH" in err


def test_copy(field: Field) -> None:
    field.run("backup-push")
    for side in ("archive", "second"):
        (field.path / side).mkdir(exist_ok=True)
        (field.path / f"{side}.json").write_text(json.dumps({"WALG_FILE_PREFIX": str(field.path / side)}))
    words = ("copy", "--from", str(field.path / "archive.json"), "--to", str(field.path / "second.json"))
    field.run(*words)
    _, err = field.run(*words)
    assert "0 objects copied, 2 were there already" in err
    held = sorted(path.read_bytes() for path in (field.path / "second").rglob("*") if path.is_file())
    assert held == sorted(path.read_bytes() for path in field.objects())
