"""JSON, times and tables in the original's forms, against what it printed and stored."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from walg_core.backups import catalog, gojson, table, times
from walg_core.storage.memory import MemoryStorage

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"


def golden(path: str) -> Path:
    found = GOLDEN / path
    if not found.exists():
        pytest.skip("the golden archives are not beside this checkout")
    return found


@pytest.mark.parametrize("kind", ["sentinel", "metadata"])
def test_golden_objects_are_written_again_byte_for_byte(kind: str) -> None:
    root = golden("pg18-zstd/storage/basebackups_005")
    paths = root.glob("*_sentinel.json") if kind == "sentinel" else root.glob("*/metadata.json")
    written = [path.read_bytes() for path in paths]
    assert written
    for data in written:
        assert gojson.dumps(json.loads(data)) == data


def test_html_and_line_separators_are_escaped() -> None:
    assert gojson.dumps({"a": "<b>&\u2028é"}) == '{"a":"\\u003cb\\u003e\\u0026\\u2028é"}'.encode()
    assert gojson.dumps("<", escape_html=False) == b'"<"'


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (1e20, "100000000000000000000"), (1e21, "1e+21"), (1e-6, "0.000001"), (1e-7, "1e-7"), (0.5, "0.5"),
     (-2.0, "-2"), (1.5e300, "1.5e+300"), (123456789.25, "123456789.25"), (5e-324, "5e-324"), (0.0, "0")],
)  # fmt: skip
def test_floats(value: float, text: str) -> None:
    assert gojson.dumps(value).decode() == text


def test_user_data_has_sorted_keys() -> None:
    assert gojson.dumps(gojson.user_data({"b": 1, "a": {"d": 1.0, "c": None}})) == b'{"a":{"c":null,"d":1},"b":1}'


def test_indent() -> None:
    assert gojson.dumps([{"a": 1}], indent=4) == b'[\n    {\n        "a": 1\n    }\n]'


@given(st.integers(0, 4_000_000_000 * times.SECOND))
def test_times_round_trip(ns: int) -> None:
    assert times.parse(times.format_utc(ns)) == ns
    assert times.parse(times.format_local(ns)) == ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T03:00:00+03:00", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T00:00:01", times.SECOND),
        ("0001-01-01T00:00:00Z", times.ZERO),
        ("2026-11-22T12:00:05.165857152Z", 1795348805165857152),
    ],
)
def test_parse(text: str, ns: int) -> None:
    assert times.parse(text) == ns


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-11-22", "base_000000010000000000000003"]
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        times.parse(text)


def test_format_drops_trailing_zeros() -> None:
    assert times.format_utc(1795348803858813000) == "2026-11-22T12:00:03.858813Z"
    assert times.format_utc(1795348803000000000) == "2026-11-22T12:00:03Z"
    assert times.format_utc(1795348803858813000, 0) == "2026-11-22T12:00:03Z"
    assert times.format_rfc850(1795348803858813000) == "Sunday, 22-Nov-26 12:00:03 UTC"
    assert times.backup_stamp(times.parse_stamp("20240102T030405Z")) == "20240102T030405Z"


def test_plain_table() -> None:
    text = table.plain(["name", "modified"], [["stream_1", "now"], ["s", "a while ago"]])
    assert text == "name     modified\nstream_1 now\ns        a while ago\n"


def test_pretty_table() -> None:
    rows = [["a", "1"]] * 11
    assert table.pretty(["Backup name", "Size"], rows).splitlines()[:4] == [
        "+----+-------------+------+",
        "|  # | BACKUP NAME | SIZE |",
        "+----+-------------+------+",
        "|  0 | a           | 1    |",
    ]


def test_catalogue_orders_by_the_sentinels_time() -> None:
    storage = MemoryStorage()
    with pytest.raises(catalog.NoBackups):
        catalog.latest(storage)
    for name in ("base_000000010000000000000009", "base_000000010000000000000003"):
        storage.put_bytes(catalog.sentinel_key(name), b"{}")
        storage.put_bytes(f"basebackups_005/{name}/metadata.json", b"{}")
    assert catalog.latest(storage).name == "base_000000010000000000000003"
    assert [b.wal_file_name for b in catalog.list_backups(storage)] == [
        "000000010000000000000009",
        "000000010000000000000003",
    ]
    assert catalog.find(storage, "LATEST").name == "base_000000010000000000000003"
    with pytest.raises(catalog.BackupNotFound, match="does not exist"):
        catalog.find(storage, "base_00000001000000000000000A")


def test_a_name_without_hex_digits() -> None:
    assert catalog.BackupObject("stream_20240102T030405Z", "", 0).wal_file_name == "Z" * 24
