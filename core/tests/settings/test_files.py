"""Configuration files: forms, search, refusals (spec/config.md 2, 16.1-16.3)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from walg_core.errors import ConfigError
from walg_core.settings.dotenv import parse_dotenv
from walg_core.settings.files import find_file, line_of, read_file
from walg_core.settings.parse import as_text

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
        ("# note\nA: 1\nB: x=y\n", {"A": 1, "B": "x=y"}),
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


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("off", "off"), ("yes", "yes"), ("0123", "83"), ("0x10", "16"), ("0o17", "15"), ("0b11", "3"),
        ("1_000", "1000"),
        ("+5", "5"),
        ("-0", "0"), ("1e9", "1000000000"), ("1e-7", "0.0000001"), ("1.10", "1.1"), ("1.0", "1"), (".5", "0.5"),
        (".inf", "+Inf"), ("-.Inf", "-Inf"), (".nan", "NaN"), ("TRUE", "true"), ("12:30", "12:30"), ("'0123'", "0123"),
        ('"1.0"', "1.0"), ("!!str 1.0", "1.0"), ("100000000000000000000", "100000000000000000000"), ("a#b", "a#b"),
        ("2024-01-02", "2024-01-02 00:00:00 +0000 UTC"), ("2024-01-02T03:04:05.5Z", "2024-01-02 03:04:05.5 +0000 UTC"),
        ("2024-01-02 03:04:05+02:00", "2024-01-02 03:04:05 +0200 +0200"), ("2024-13-02", "2024-13-02"), ("1,5", "1,5"),
    ],
)  # fmt: skip
def test_yaml_values_are_what_go_reads(tmp_path: Path, written: str, text: str) -> None:
    """Compared with the original, whose text goes into the storage's prefix."""
    path = tmp_path / "c.yaml"
    path.write_text(f"A: {written}\n")
    assert as_text(read_file(str(path), {})["A"]) == text


def test_yaml_lists_maps_and_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("E: ~\nF: '~'\nI: [1, two, yes]\nJ: {n: 010, Sub: {b: true}}\nK:\n")
    assert read_file(str(path), {}) == {
        "E": None, "F": "~", "I": [1, "two", "yes"], "J": {"n": 8, "Sub": {"b": True}}, "K": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("true", "true"), ("1e3", "1000"), ("1.50", "1.5"), ("1e100", "1" + "0" * 100), ("0x10", "16"), ("inf", "+Inf"),
        ("2024-01-02", "2024-01-02"), ("07:32:00", "07:32:00"),
        ("2024-01-02T03:04:05Z", "2024-01-02 03:04:05 +0000 UTC"),
    ],
)  # fmt: skip
def test_toml_values_are_what_go_reads(tmp_path: Path, written: str, text: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f"A = {written}\n")
    assert as_text(read_file(str(path), {})["A"]) == text


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
        ("A=x#y", {"A": "x"}),
        ("A='x#y'", {"A": "x#y"}),
        ("A=#x\nB=1", {"A": "", "B": "1"}),
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
