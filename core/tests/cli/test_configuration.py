"""Settings on the command line: flags anywhere, files, exports, unknown names, `config show|check|schema`."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize(
    "words",
    [
        ["--fakedb-host", "h", "hello"],
        ["hello", "--fakedb-host=h"],
        ["hello", "--word", "hi", "--fakedb-host", "h"],
        ["--fakedb-host", "wrong", "hello", "--fakedb-host", "h"],
    ],
)
def test_setting_flags_stand_anywhere(machine, words) -> None:
    assert machine.run(*words).stdout.startswith("hi h:1"), machine.run(*words).stderr


def test_turbo_and_precedence(machine) -> None:
    (machine.home / ".walg.json").write_text('{"fakedb_host": "file", "FAKEDB_PORT": 7}')
    assert machine.run("hello", "--turbo").stdout == "hi file:7 turbo=True v=False\n"
    assert machine.run("hello", FAKEDB_HOST="env").stdout.startswith("hi env:7")
    assert machine.run("hello", "--fakedb-host", "flag", FAKEDB_HOST="env").stdout.startswith("hi flag:7")
    other = machine.root / "other.yaml"
    other.write_text("FAKEDB_PORT: 8\n")
    assert machine.run("hello", "--config", str(other)).stdout.startswith("hi nowhere:8")
    assert machine.run("hello", WALG_CONFIG_PATH=str(other)).stdout.startswith("hi nowhere:8")


@pytest.mark.parametrize("words", [["hello"], ["log-push", "x"]])
def test_a_broken_or_missing_file_stops_commands_only(machine, words) -> None:
    broken = machine.root / "broken.json"
    broken.write_text("{")
    for path in (str(broken), str(machine.root / "missing.json")):
        done = machine.run(*words, "--config", path)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"Failed to parse config file {path}" in done.stderr
        assert machine.run("--help", "--config", path).returncode == 0
        check = machine.run("config", "check", "--config", path)
        assert check.returncode == 1
        assert path in check.stdout


def test_user_set_values_are_exported_and_defaults_are_not(machine) -> None:
    secret = machine.root / "secret"
    secret.write_text("hush-hush")
    config = machine.root / "c.json"
    config.write_text(json.dumps({"my_own": "file", "FAKEDB_PORT": 5, "WALG_STATSD_EXTRA_TAGS": {"a": "b"}}))
    common = {"WALG_CONFIG_PATH": str(config), "FAKEDB_PASSWORD_FILE": str(secret)}
    for name, words, value in (
        ("MY_OWN", [], "file"),
        ("FAKEDB_PORT", [], "5"),
        ("FAKEDB_PORT", ["--fakedb-port", "6"], "6"),
        ("FAKEDB_HOST", [], ""),
        ("WALG_COMPRESSION_METHOD", [], ""),
        ("WALG_STATSD_EXTRA_TAGS", [], ""),
        ("FAKEDB_PASSWORD", [], ""),
    ):
        assert machine.run("environment", name, *words, **common).stdout == value + "\n", name


def test_unknown_names(machine) -> None:
    (machine.home / ".walg.json").write_text('{"FAKEDB_HOTS": "x", "COMPLETELY_ELSE": 1, "FAKEDB_HOST": "h"}')
    done = machine.run("hello")
    assert done.returncode == 0
    assert "FAKEDB_HOTS is unknown, did you mean FAKEDB_HOST?" in done.stderr
    assert "COMPLETELY_ELSE is unknown\n" in done.stderr
    for words, variables in ((["--strict-config"], {}), ([], {"WALG_STRICT_CONFIG": "true"})):
        strict = machine.run("hello", *words, **variables)
        assert (strict.returncode, strict.stdout) == (1, "")
        assert "FAKEDB_HOTS is unknown" in strict.stderr


def test_check_finds_all_mistakes_with_their_origins(machine) -> None:
    (machine.home / ".walg.yaml").write_text(
        "# note\nFAKEDB_HOTS: x\nWALG_UPLOAD_CONCURRENCY: zero\nHTTP_EXPOSE_PPROF: true\n"
    )
    done = machine.run(
        "config", "check", "--fakedb-port", "many", WALG_DOWNLOAD_CONCURENCY="1", WALG_ZSTD_LEVEL="best",
        WALG_DOWNLOAD_CONCURRENCY="0", WALG_COMPRESSION_METHOD="zip", FAKEDB_PASSWORD_FILE="/nowhere/x",
    )  # fmt: skip
    file = machine.home / ".walg.yaml"
    assert done.returncode == 1
    for text in (
        "FAKEDB_PORT: expected an integer but is 'many' (flag --fakedb-port)",
        f"FAKEDB_HOTS: is unknown, did you mean FAKEDB_HOST? (file {file}, line 2: FAKEDB_HOTS)",
        f"WALG_UPLOAD_CONCURRENCY: expected an integer but is 'zero' (file {file}, line 3: WALG_UPLOAD_CONCURRENCY)",
        "WALG_DOWNLOAD_CONCURENCY: is unknown, did you mean WALG_DOWNLOAD_CONCURRENCY?",
        "WALG_DOWNLOAD_CONCURRENCY: value is expected to be positive but is: 0",
        "WALG_COMPRESSION_METHOD: Unknown compression method: 'zip'",
        "WALG_ZSTD_LEVEL: is set but the compression method is 'zip', not 'zstd'",
        "cannot read /nowhere/x",
        "HTTP_EXPOSE_PPROF: HTTP_LISTEN is not set",
    ):
        assert text in done.stdout
    rows = json.loads(machine.run("config", "check", "--json", "--fakedb-port", "many").stdout)
    assert {
        "setting": "FAKEDB_PORT",
        "origin": "flag --fakedb-port",
        "message": "expected an integer but is 'many'",
    } in rows


def test_check_of_a_good_configuration(machine) -> None:
    done = machine.run("config", "check")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "No mistakes" in done.stdout


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"WALG_S3_PREFIX": "s3://b"}, "walg-storage-s3"),
        ({"WALG_LIBSODIUM_KEY_FILE": "/k"}, "walg-crypto-libsodium"),
        ({"WALG_FILE_PREFIX": ""}, "no storage is configured"),
    ],
)
def test_check_names_missing_distributions(machine, variables, text) -> None:
    installed = "walg-storage-s3,walg-crypto-libsodium"
    blocked = machine.environment["WALG_DISABLED_PLUGINS"] + "," + installed
    done = machine.run("config", "check", **{**variables, "WALG_DISABLED_PLUGINS": blocked})
    assert done.returncode == 1
    assert text in done.stdout


def test_show(machine) -> None:
    (machine.home / ".walg.json").write_text('{\n"FAKEDB_PORT": 7\n}')
    done = machine.run("config", "show", "--origin", "--fakedb-host", "h", FAKEDB_PASSWORD="hush-hush")
    lines = done.stdout.splitlines()
    assert "FAKEDB_HOST=h  # flag --fakedb-host" in lines
    assert f"FAKEDB_PORT=7  # file {machine.home}/.walg.json, line 2: FAKEDB_PORT" in lines
    assert "FAKEDB_PASSWORD=--HIDDEN--  # environment FAKEDB_PASSWORD" in lines
    assert "WALG_COMPRESSION_METHOD=lz4  # default" in lines
    document = json.loads(machine.run("config", "show", "--json").stdout)
    assert document["FAKEDB_PORT"] == "7"
    both = json.loads(machine.run("config", "show", "--json", "--origin").stdout)
    assert both["WALG_UPLOAD_CONCURRENCY"] == {"value": "16", "origin": "default"}


def test_schema(machine) -> None:
    schema = json.loads(machine.run("config", "schema").stdout)
    properties = schema["properties"]
    assert properties["WALG_LOG_LEVEL"]["enum"] == ["NORMAL", "DEVEL", "ERROR"]
    assert properties["WALG_UPLOAD_CONCURRENCY"]["default"] == "16"
    assert properties["FAKEDB_PASSWORD"]["writeOnly"] is True
    assert {"WALE_FILE_PREFIX", "FAKEDB_PASSWORD_FILE", "FAKEDB_PASSWORD_COMMAND"} <= set(properties)
    assert schema["additionalProperties"] is False


def test_settings_of_several_engines_are_all_known_to_core(two_engines) -> None:
    (two_engines.home / ".walg.json").write_text('{"FAKEDB_PORT": 7, "OTHERDB_HOST": "x"}')
    done = two_engines.run("config", "show")
    assert "FAKEDB_PORT=7" in done.stdout
    assert "OTHERDB_HOST=x" in done.stdout
    assert "unknown" not in two_engines.run("fakedb", "hello").stderr


def test_a_level_of_another_method_is_an_error(machine) -> None:
    source = machine.root / "f"
    source.write_text("x")
    done = machine.run("st", "put", str(source), "f", WALG_ZSTD_LEVEL="best")
    assert done.returncode == 1
    assert "WALG_ZSTD_LEVEL is set but the compression method is 'lz4', not 'zstd'" in done.stderr
    unknown = machine.run("st", "put", str(source), "f", WALG_COMPRESSION_METHOD="zip")
    assert "Unknown compression method: 'zip', supported methods are: [lz4 lzma none brotli zstd]" in unknown.stderr


@pytest.mark.parametrize("words", [["hello"], ["log-push", "x"]])
def test_required_settings_are_asked_for_before_a_command(machine, words) -> None:
    plugin = machine.site / "fakedb" / "plugin.py"
    plugin.write_text(plugin.read_text().replace("settings=(", 'required=("FAKEDB_PASSWORD",), settings=('))
    done = machine.run(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Required variable FAKEDB_PASSWORD is not set." in done.stderr
    assert machine.run(*words, FAKEDB_PASSWORD="secret").returncode == 0
    assert "FAKEDB_PASSWORD: is required and not set" in machine.run("config", "check").stdout


def test_an_engine_may_have_a_command_of_a_name_of_core(machine) -> None:
    cli = machine.site / "fakedb" / "cli.py"
    cli.write_text(
        cli.read_text()
        + """
@app.command()
def flags(ctx: typer.Context):
    typer.echo("own " + ctx.obj.engine)
"""
    )
    assert machine.run("flags").stdout == "own fakedb\n"
