"""Hooks of third parties: commands, checks, layers, notifications; one that fails hurts nobody."""

from __future__ import annotations

import json

PLUGIN = """
import typer
from walg_core.health import Check
from walg_core.hookspecs import hookimpl
from walg_core.settings.declare import Setting
from walg_core.storage.layers.base import Layer

class Shouting(Layer):
    def put(self, key, body, size=None, if_absent=False):
        return self.inner.put(key.upper(), body, size, if_absent)

@hookimpl
def walg_register_settings():
    return [Setting("THIRD_SETTING", "of a third party")]

@hookimpl
def walg_register_commands(app):
    @app.command()
    def third(ctx: typer.Context):
        typer.echo(f"third {ctx.obj.config.get('THIRD_SETTING')}")
        ctx.obj.write_storage().put_bytes("object", b"bytes")
        typer.echo(" ".join(info.key for info in ctx.obj.read_storage().list()))

@hookimpl
def walg_health_checks(context):
    return [Check("third", "warning", "so so", "rest")]

@hookimpl
def walg_wrap_storage(storage):
    return Shouting(storage)

@hookimpl
def walg_object_written(event):
    typer.echo(f"written {event.key} {event.size}")
    raise RuntimeError("audit is down")
"""


def test_a_third_party_adds_to_everything(machine) -> None:
    machine.install("walg-third", {"third.py": PLUGIN}, {"walg.plugins": {"third": "third"}})
    done = machine.run("third", "--third-setting", "x")
    assert done.stdout == "third x\nwritten object 5\nOBJECT\n", done.stderr
    assert "a plugin failed in walg_object_written: RuntimeError: audit is down" in done.stderr
    rows = {row["name"]: row for row in json.loads(machine.run("doctor", "--json").stdout)}
    assert rows["third"] == {"name": "third", "status": "warning", "message": "so so", "hint": "rest"}


def test_checks_that_fail_are_reported_with_the_others(machine) -> None:
    broken = PLUGIN.replace('return [Check("third"', 'raise RuntimeError("no idea"); return [Check("third"')
    machine.install("walg-third", {"third.py": broken}, {"walg.plugins": {"third": "third"}})
    done = machine.run("doctor")
    assert done.returncode == 1
    assert "RuntimeError: no idea" in done.stdout
    assert "OK       storage" in done.stdout


def test_a_misspelt_hook_and_a_name_taken_twice_are_problems(machine) -> None:
    machine.install(
        "walg-misspelt", {"misspelt.py": PLUGIN.replace("walg_health_checks", "walg_helth_checks")},
        {"walg.plugins": {"misspelt": "misspelt"}},
    )  # fmt: skip
    twice = """
from walg_core.declarations import CompressorType
from walg_core.hookspecs import hookimpl

@hookimpl
def walg_register_compressors():
    return [CompressorType("lz4", extension="lz4", factory="x:y")]
"""
    machine.install("walg-twice", {"twice.py": twice}, {"walg.compressors": {"twice": "twice"}})
    rows = {row["name"]: row["problem"] for row in json.loads(machine.run("plugins", "--json").stdout)}
    assert rows["misspelt"] == "RuntimeError: unknown hook walg_helth_checks"
    assert rows["twice"] == "RuntimeError: compressor 'lz4' is declared twice"


def test_commands_that_cannot_be_added_are_left_out(machine) -> None:
    broken = PLUGIN.replace("@app.command()", "raise RuntimeError('not today')")
    machine.install("walg-third", {"third.py": broken}, {"walg.plugins": {"third": "third"}})
    done = machine.run("hello")
    assert done.returncode == 0
    assert "the commands of the plugin third are missing: RuntimeError: not today" in done.stderr


def test_switches_in_the_form_of_go(machine) -> None:
    assert machine.run("log-push", "x", "--quiet=true").stdout.startswith("pushed x [('quiet', True)]")
    assert machine.run("log-push", "x", "--quiet=false").stdout.startswith("pushed x []")
    assert machine.run("log-push", "x", "--quiet=maybe").returncode == 1


def test_check_looks_into_failover_storages(machine) -> None:
    storages = {"far": {"WALG_FILE_PREFIX": "/far", "WALG_FILE_PREFFIX": "x"}, "bad": 1, "empty": {}}
    done = machine.run("config", "check", WALG_FAILOVER_STORAGES=json.dumps(storages))
    assert done.returncode == 1
    assert "WALG_FAILOVER_STORAGES: far: WALG_FILE_PREFFIX: is unknown, did you mean WALG_FILE_PREFIX?" in done.stdout
    assert "WALG_FAILOVER_STORAGES: bad: expected a map of settings" in done.stdout
    assert "WALG_FAILOVER_STORAGES: empty: has no storage prefix" in done.stdout
