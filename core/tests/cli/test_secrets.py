"""No secret in any output, whatever is asked and whatever fails (spec/config.md 12, 16.7)."""

from __future__ import annotations

import json
import socket

import pytest
from walg_core.discovery import discover

FORMS = {"plain": [], "debug": ["--debug"], "json": ["--walg-log-format", "json"]}
SECRETS = {
    setting.name: setting
    for catalog in [discover()]
    for setting in [*catalog.all_settings(), *(s for e in catalog.engines.values() for s in e.settings)]
    if setting.secret
}
CANARY = "canary-7f3a-{}"


def outputs(done) -> str:
    return done.stdout + done.stderr


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("how", ["error", "defect", "thread", "stdlib", "fine"])
def test_what_a_command_leaks_is_hidden(machine, how, form) -> None:
    done = machine.run("leak", how, *FORMS[form], FAKEDB_PASSWORD="s3cr3t canary/+")
    assert "--HIDDEN--" in outputs(done)
    assert "s3cr3t" not in outputs(done)
    if form != "debug":
        assert "Traceback" not in outputs(done)
    elif how in ("error", "defect"):
        assert "Traceback" in outputs(done)


@pytest.mark.parametrize("source", ["file", "command", "config", "flag"])
def test_from_wherever_it_comes(machine, source) -> None:
    secret = machine.root / "secret"
    secret.write_text("s3cr3t canary\n")
    (machine.root / "c.json").write_text(json.dumps({"fakedb_password": "s3cr3t canary"}))
    variables, words = {}, []
    if source == "file":
        variables["FAKEDB_PASSWORD_FILE"] = str(secret)
    elif source == "command":
        variables["FAKEDB_PASSWORD_COMMAND"] = f"cat {secret}"
    elif source == "config":
        words = ["--config", str(machine.root / "c.json")]
    else:
        words = ["--fakedb-password", "s3cr3t canary"]
    done = machine.run("leak", "error", "--debug", *words, **variables)
    assert "connecting with --HIDDEN--" in outputs(done)
    assert "s3cr3t" not in outputs(done)
    assert ("list processes" in done.stderr) == (source == "flag")


def test_the_log_file_too(machine) -> None:
    log = machine.root / "log"
    machine.run("leak", "error", FAKEDB_PASSWORD="s3cr3t canary", WALG_LOG_DESTINATION=str(log))
    assert "cannot log in with --HIDDEN--" in log.read_text()


def test_every_secret_setting_and_every_command(machine) -> None:
    """A value of its own in every secret setting of every installed plugin; every command of core, failing and not."""
    machine.environment["WALG_DISABLED_PLUGINS"] = ""
    for name, setting in SECRETS.items():
        value = CANARY.format(name.lower())
        if setting.kind == "map":
            value = json.dumps({"far": {"AWS_SECRET_ACCESS_KEY": value, "PASSWORD": value}})
        machine.environment[name] = value
    commands = [
        ["config", "show", "--origin", "--all"], ["config", "show", "--json"], ["config", "check"],
        ["config", "schema"],
        ["plugins"], ["doctor"], ["doctor", "--debug"], ["flags"], ["--help"], ["--version"], ["nonsense", "--debug"],
        ["fakedb", "hello", "--debug"], ["fakedb", "log-push", "x", "--debug"],
        ["config", "check", "--walg-upload-concurrency", "x"],
    ]  # fmt: skip
    assert len(SECRETS) >= 3
    for words in commands:
        for extra in ({}, {"WALG_LOG_FORMAT": "json"}):
            done = machine.run(*words, **extra)
            assert "canary" not in outputs(done), words
    shown = json.loads(machine.run("config", "show", "--json").stdout)
    assert {name: shown[name] for name in SECRETS} == dict.fromkeys(SECRETS, "--HIDDEN--")


def test_metrics_are_told_after_success_and_failure_of_any_command(machine) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(10)
        machine.environment["WALG_STATSD_ADDRESS"] = f"127.0.0.1:{listening.getsockname()[1]}"
        for words in (["hello"], ["leak", "error"], ["leak", "defect"], ["log-push", "x"], ["log-push", "seven"]):
            machine.run(*words)
            assert listening.recv(65535).startswith(b"walg_s3_bytes_read:0|g\n"), words
