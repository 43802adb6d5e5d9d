"""The secrets canary: a value of its own in every secret setting, every command of every engine, no trace of any.

Commands run in children of one process that has already imported everything.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from walg_core.discovery import discover

CATALOG = discover()
ENGINES = sorted(CATALOG.engines)
CIPHER = re.compile(r"LIBSODIUM|PGP|KMS")

DRIVER = r"""
import json, os, signal, sys
import typer
from walg_core.cli.app import build
from walg_core.cli.main import run
from walg_core.cli.session import Session

engine, scratch, flags = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])

def leaves(command, path=()):
    for name, child in sorted(getattr(command, "commands", {}).items()):
        yield from leaves(child, (*path, name))
    if not getattr(command, "commands", None):
        yield path, command

def words(command):
    for parameter in command.params:
        if parameter.param_type_name == "argument" and parameter.required:
            yield f"{scratch}/word"
        elif parameter.param_type_name == "option" and parameter.required:
            yield from (parameter.opts[0], f"{scratch}/word")

for path, command in leaves(typer.main.get_command(build(Session([], engine=engine)))):
    argv = [*path, *words(command), *flags]
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.alarm(8)  # servers and receivers end so
        output = os.open(f"{scratch}/{'-'.join(path)}.out", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        status = 70
        try:
            status = run(argv, engine=engine)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print(json.dumps([argv, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]))
"""


def secret_environment(engine: str, *, ciphers: bool) -> dict[str, str]:
    """Every secret setting that the engine's commands know → its canary, in the form that its kind asks for."""
    found = {}
    for setting in (*CATALOG.all_settings(), *CATALOG.engines[engine].settings):
        if not setting.secret or (CIPHER.search(setting.name) and not ciphers):
            continue
        value = f"canary{setting.name.replace('_', '').lower()}"
        if setting.kind == "map":
            value = json.dumps({"far": {"AWS_SECRET_ACCESS_KEY": value, "PASSWORD": value}})
        elif setting.name.endswith(("DATASOURCE_NAME", "REPLICA_SOURCE")):
            value = f"user:{value}@tcp(127.0.0.1:1)/"
        found[setting.name] = value
    return found


@pytest.mark.parametrize("case", ["disk", "disk-with-ciphers", "dead-s3"])
@pytest.mark.parametrize("engine", ENGINES)
def test_no_command_shows_a_secret(tmp_path: Path, engine: str, case: str) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"(WALG_|AWS_|S3_|PG|GCS_|AZURE_|OS_|OSS_|SSH_|SWIFT_)", name)
    }
    for part in ("out", "home", "store"):
        (tmp_path / part).mkdir()
    environment |= secret_environment(engine, ciphers=case == "disk-with-ciphers")
    environment |= {"HOME": str(tmp_path / "home"), "WALG_LOG_LEVEL": "DEVEL", "PGHOST": "127.0.0.1", "PGPORT": "1"}
    listing = tmp_path / "processes"
    spy = f"cat /proc/[0-9]*/cmdline >> {listing} 2>/dev/null; exit 3"
    environment |= {"WALG_STREAM_CREATE_COMMAND": spy, "WALG_STREAM_RESTORE_COMMAND": spy}
    if case == "dead-s3":
        environment |= {"WALG_S3_PREFIX": "s3://b/p", "AWS_ENDPOINT": "http://127.0.0.1:1", "S3_MAX_RETRIES": "1"}
        environment |= {"AWS_REGION": "eu-west-1", "WALG_NETWORK_RETRIES": "0"}
    else:
        environment |= {"WALG_FILE_PREFIX": str(tmp_path / "store")}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, engine, str(tmp_path / "out"), json.dumps(["--debug"])],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ran = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(ran) >= 10
    assert any(status == 0 for _, status in ran), "nothing worked"
    assert any(status not in (0, 2) for _, status in ran), "nothing failed in its work"
    leaks = {
        f"{path.relative_to(tmp_path)}: {match.group()}"
        for path in [*(tmp_path / "out").rglob("*"), *(tmp_path / "home").rglob("*"), listing]
        if path.is_file()
        for match in re.finditer(rb".{0,60}canary[a-z]+", path.read_bytes())
    }
    assert leaks == set()
