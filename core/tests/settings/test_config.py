"""Precedence, aliases, nested configurations, secrets from files and commands (spec/config.md 1, 3, 4)."""

from __future__ import annotations

from pathlib import Path

import pytest
from walg_core.errors import ConfigError
from walg_core.observe.redact import redact
from walg_core.settings.config import Config
from walg_core.settings.declare import Setting, prefix_setting, storage_setting

SETTINGS = (
    Setting("WALG_X", "x", default="built-in"),
    Setting("WALG_N", "n", kind="int", default="3"),
    Setting("PASSWORD", "p", secret=True),
    Setting("OTHER_KEY_FILE", "its own", kind="path"),
    Setting("OTHER_KEY", "k", secret=True),
    storage_setting("S3_STORAGE_CLASS", "c"),
    storage_setting("AWS_REGION", "r"),
    prefix_setting("S3", "where"),
)


def make(**sources: object) -> Config:
    return Config(SETTINGS, file_name="/f", **sources)  # type: ignore[arg-type]


def test_flag_then_environment_then_file_then_default() -> None:
    flags, environment, file = {"WALG_X": "flag"}, {"WALG_X": "env"}, {"WALG_X": "file"}
    for sources, value, origin in (
        ({"flags": flags, "environment": environment, "file": file}, "flag", "flag --walg-x"),
        ({"environment": environment, "file": file}, "env", "environment WALG_X"),
        ({"environment": {"WALG_X": ""}, "file": file}, "file", "file /f: WALG_X"),
        ({"file": {"WALG_X": None}}, "built-in", "default"),
        ({"flags": {"WALG_X": ""}, "environment": environment}, "", "flag --walg-x"),
    ):
        config = make(**sources)
        assert (config.get("WALG_X"), config.origin("WALG_X")) == (value, origin)
        assert config.is_set("WALG_X") == (origin != "default")


def test_aliases_in_order_each_through_all_sources() -> None:
    assert make(environment={"WALE_S3_PREFIX": "s3://old"}).get("WALG_S3_PREFIX") == "s3://old"
    both = make(environment={"WALE_S3_PREFIX": "s3://old"}, file={"WALG_S3_PREFIX": "s3://new"})
    assert both.get("WALG_S3_PREFIX") == "s3://new"
    twins = make(environment={"WALG_S3_STORAGE_CLASS": "twin"}, file={"S3_STORAGE_CLASS": "bare"})
    assert twins.get("S3_STORAGE_CLASS") == "bare"


def test_a_nested_configuration_sees_its_parent_by_bare_name_only() -> None:
    parent = make(environment={"AWS_REGION": "eu", "WALG_S3_STORAGE_CLASS": "COLD", "PASSWORD_FILE": "/nowhere"})
    nested = parent.nested({"aws_REGION": ""}, "failover")
    assert nested.get("AWS_REGION") == "eu"
    assert nested.get("S3_STORAGE_CLASS") is None
    assert nested.is_set("PASSWORD")


def test_malformed_values_name_setting_origin_and_expectation() -> None:
    with pytest.raises(ConfigError, match=r"WALG_N \(environment WALG_N\): expected an integer but is 'abc'"):
        make(environment={"WALG_N": "abc"}).get("WALG_N")
    assert make(file={"WALG_N": 10.9}).get("WALG_N") == 10


def test_secrets_by_file_and_command(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-file\r\n")
    assert make(environment={"PASSWORD_FILE": str(file)}).get("PASSWORD") == "from-file"
    ran = make(environment={"PASSWORD_COMMAND": f"echo ran >> {tmp_path}/log; echo from-command"})
    assert ran.is_set("PASSWORD")
    assert not (tmp_path / "log").exists()
    assert (ran.get("PASSWORD"), ran.get("PASSWORD")) == ("from-command", "from-command")
    assert (tmp_path / "log").read_text() == "ran\n"
    assert ran.origin("PASSWORD") == "environment PASSWORD_COMMAND"
    order = {"PASSWORD": "own", "PASSWORD_FILE": str(file), "PASSWORD_COMMAND": "false"}
    assert make(environment=order).get("PASSWORD") == "own"
    assert (
        make(file={"PASSWORD_FILE": str(file)}, environment={"PASSWORD_COMMAND": "false"}).get("PASSWORD")
        == "from-file"
    )
    assert not make(environment={"WALG_X_FILE": str(file)}).is_set("WALG_X")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("PASSWORD_FILE", "/nowhere/at/all", "cannot read"),
        ("PASSWORD_FILE", "/dev/null", "empty"),
        ("PASSWORD_COMMAND", "exit 3", "status 3"),
        ("PASSWORD_COMMAND", "true", "empty"),
    ],
)
def test_a_secret_that_cannot_be_had_is_an_error(name: str, value: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make(environment={name: value}).get("PASSWORD")


def test_a_setting_whose_name_ends_like_a_source_is_its_own() -> None:
    config = make(environment={"OTHER_KEY_FILE": "/a/path"})
    assert config.get("OTHER_KEY_FILE") == "/a/path"
    assert config.get("OTHER_KEY") is None


def test_a_secret_of_a_nested_configuration_is_hidden_when_it_is_read() -> None:
    nested = make().nested({"password": "inner-s3cr3t"}, "other side of a copy")
    assert redact("inner-s3cr3t") == "inner-s3cr3t"
    nested.get("PASSWORD")
    assert redact("with inner-s3cr3t") == "with --HIDDEN--"


def test_required() -> None:
    with pytest.raises(ConfigError, match="Required variable PASSWORD is not set"):
        make().require("PASSWORD")
