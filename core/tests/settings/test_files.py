"""Configuration files: forms, search, refusals (spec/config.md 2, 16.1-16.3)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from walg_core.errors import ConfigError
from walg_core.settings.dotenv import parse_dotenv
from walg_core.settings.files import find_file, line_of, read_file

SAME = {
    "c.json": '{"walg_file_prefix": "/a", "WALG_UPLOAD_CONCURRENCY": 3, '
    '"WALG_FAILOVER_STORAGES": {"Far": {"AWS_Key": "x"}}}',
    "c.yaml": "walg_file_prefix: /a\nWALG_UPLOAD_CONCURRENCY: 3\nWALG_FAILOVER_STORAGES:\n  Far:\n    AWS_Key: x\n",
    "c.yml": "{walg_file_prefix: /a, WALG_UPLOAD_CONCURRENCY: 3, WALG_FAILOVER_STORAGES: {Far: {AWS_Key: x}}}",
    "c.toml": 'walg_file_prefix = "/a"\nWALG_UPLOAD_CONCURRENCY = 3\n[WALG_FAILOVER_STORAGES.Far]\nAWS_Key = "x"\n',
}


@pytest.mark.parametrize("name", SAME)
def test_every_form_says_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(SAME[name])
    values = read_file(str(path), {})
    assert values["WALG_FILE_PREFIX"] == "/a"
    assert str(values["WALG_UPLOAD_CONCURRENCY"]) == "3"
    assert values["WALG_FAILOVER_STORAGES"] == {"Far": {"AWS_Key": "x"}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"A": "1"}', {"A": "1"}),
        ("# note\nA: 1\nB: x=y\n", {"A": "1", "B": "x=y"}),
        ("export A=1\nB='x y'\n", {"A": "1", "B": "x y"}),
        ('A = "1"\nB = "x"\n', {"A": "1", "B": "x"}),
        ("", {}),
    ],
)
@pytest.mark.parametrize("name", ["walg", "wal-g.conf"])
def test_a_file_without_a_known_extension_is_recognised(tmp_path: Path, name: str, text: str, expected: object) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert read_file(str(path), {}) == expected


def test_yaml_values_are_the_text_that_is_written(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("A: off\nB: 0123\nC: 1e9\nD: 12:30\nE: ~\nF: '~'\nG: 1.10\nH: yes\nI: [1, two]\nJ: {n: 1}\n")
    assert read_file(str(path), {}) == {
        "A": "off", "B": "0123", "C": "1e9", "D": "12:30", "E": None, "F": "~", "G": "1.10", "H": "yes",
        "I": [1, "two"], "J": {"n": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", "{"), ("c.json", "[1]"), ("c.yaml", "a: [1"), ("c.yaml", "- a"), ("c.yaml", "[a]: 1"),
        ("c.toml", "a = "), ("c.env", "no sign"), ("c.env", 'A="open'), ("c.env", "A='x' y"), ("c.ini", "A=1"),
        ("c.hcl", "A=1"), ("c.properties", "A=1"), ("c.json", '{"a": 1, "A": 2}'),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_an_error(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"Failed to parse config file .*"):
        read_file(str(path), {})


def test_unreadable_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        read_file(str(tmp_path), {})
    path = tmp_path / "c.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_file(str(path), {})


def test_the_search_takes_home_and_the_original_order(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    (tmp_path / ".walg").write_text("{}")
    (tmp_path / ".walg.yaml").write_text("")
    assert find_file("", home) == str(tmp_path / ".walg.yaml")
    (tmp_path / ".walg.json").write_text("{}")
    assert find_file("", home) == str(tmp_path / ".walg.json")
    (tmp_path / "own").write_text("")
    assert find_file("", {**home, "WALG_CONFIG_PATH": str(tmp_path / "own")}) == str(tmp_path / "own")
    assert find_file(str(tmp_path / ".walg"), {**home, "WALG_CONFIG_PATH": "/nowhere"}) == str(tmp_path / ".walg")
    with pytest.raises(ConfigError, match="WALG_CONFIG_PATH"):
        find_file("", {**home, "WALG_CONFIG_PATH": "/nowhere/at/all"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1", {"A": "1"}),
        ("  export A=1  # note", {"A": "1"}),
        ("A='$HOME # x'", {"A": "$HOME # x"}),
        ('A="a\\nb \\"c\\" $H ${H}"', {"A": 'a\nb "c" /h /h'}),
        ('A="two\nlines"\nB=2', {"A": "two\nlines", "B": "2"}),
        ("A=x\nB=${A}y$A$", {"A": "x", "B": "xyx$"}),
        ("A=\\$5", {"A": "$5"}),
        ("A=", {"A": ""}),
        ("A: yaml-like", {"A": "yaml-like"}),
        ("A=x#y", {"A": "x#y"}),
        ("# only\n\n", {}),
        ("A=a=b", {"A": "a=b"}),
    ],
)
def test_lines_of_name_and_value(text: str, expected: object) -> None:
    assert parse_dotenv(text, "f", {"H": "/h"}) == expected


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        values = parse_dotenv(text, "f", {})
    except ConfigError:
        return
    assert all(isinstance(value, str) for value in values.values())


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z_][A-Z0-9_]{0,9}", fullmatch=True), st.text(st.characters(exclude_characters="'\r"))
    )
)
def test_quoted_values_come_back(values: dict[str, str]) -> None:
    text = "".join(f"{name}='{value}'\n" for name, value in values.items())
    assert parse_dotenv(text, "f", {}) == values


def test_the_line_of_a_setting(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{\n  "A": 1,\n  "walg_x": 2\n}\n')
    assert line_of(str(path), "WALG_X") == 3
    assert line_of(str(path), "WALG") == 0
    assert line_of("/nowhere", "A") == 0
