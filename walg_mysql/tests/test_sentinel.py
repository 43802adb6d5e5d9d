"""The sentinel against texts that the original wrote."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from walg_core.backups import times
from walg_core.errors import IntegrityError
from walg_mysql.sentinel import UNSPECIFIED, XTRABACKUP, Sentinel

FULL = (
    b'{"Tool":"WALG_XTRABACKUP_TOOL","BinLogStart":"mysql-bin.000002","BinLogEnd":"mysql-bin.000002",'
    b'"StartLocalTime":"2026-11-22T12:08:37.342295Z","StopLocalTime":"2026-11-22T12:08:38.653817Z",'
    b'"UncompressedSize":19392918,"CompressedSize":1147672,"Hostname":"vm",'
    b'"ServerVersion":"0-7-1219-MariaDB-0+deb12u1-log","ServerArch":"amd64","ServerOS":"linux","IsPermanent":true,'
    b'"IsIncremental":false,"UserData":{"a":1},"LSN":44894,"DeltaLSN":0,"DeltaCount":0}'
)
DUMP = (
    b'{"Tool":"WALG_UNSPECIFIED_STREAM_BACKUP_TOOL","StartLocalTime":"2024-01-02T03:04:05.123456Z",'
    b'"StopLocalTime":"2024-01-02T03:05:00.5Z","IsPermanent":false,"IsIncremental":false,"LSN":null,"DeltaCount":0}'
)


@pytest.mark.parametrize("text", [FULL, DUMP])
def test_what_the_original_wrote_comes_back_byte_for_byte(text: bytes) -> None:
    assert Sentinel.decode(text).encode() == text


def test_the_golden_archive_comes_back_byte_for_byte() -> None:
    folder = Path(__file__).resolve().parents[3] / "shared/golden/mariadb-zstd/storage/basebackups_005"
    if not folder.exists():
        pytest.skip("the golden archives are not beside this checkout")
    found = list(folder.glob("*.json"))
    assert len(found) == 2
    for path in found:
        assert Sentinel.decode(path.read_bytes()).encode() == path.read_bytes()


def test_keys_of_an_increment() -> None:
    made = Sentinel(tool=XTRABACKUP, incremental=True, lsn=4000000, delta_lsn=3738001, delta_from="stream_A",
                    delta_full_name="stream_A", delta_count=1)  # fmt: skip
    assert made.encode().endswith(
        b'"IsIncremental":true,"LSN":4000000,"DeltaLSN":3738001,"DeltaFrom":"stream_A","DeltaFullName":"stream_A",'
        b'"DeltaCount":1}'
    )


def test_an_old_sentinel_with_few_keys() -> None:
    found = Sentinel.decode(b'{"binlogstart":"a.000001","StartLocalTime":"2019-01-01T00:00:00Z","LSN":null}')
    assert (found.tool, found.binlog_start, found.lsn, found.delta_count) == (UNSPECIFIED, "a.000001", None, None)
    assert found.start_ns == times.parse("2019-01-01T00:00:00Z")
    assert found.stop_ns == times.ZERO


def test_times_of_zero_are_written_as_the_original_does() -> None:
    assert b'"StopLocalTime":"0001-01-01T00:00:00Z"' in Sentinel().encode()


def test_a_damaged_sentinel_is_an_error_that_names_the_object() -> None:
    with pytest.raises(IntegrityError, match="basebackups_005/x"):
        Sentinel.decode(b'{"Tool":', "basebackups_005/x")


_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufdd0"), max_size=20)
_numbers = st.none() | st.integers(0, 2**64 - 1)


@given(
    st.builds(
        Sentinel,
        tool=st.sampled_from([XTRABACKUP, UNSPECIFIED]),
        binlog_start=_texts,
        hostname=_texts,
        server_uuid=_texts,
        start_ns=st.integers(0, 2**61),
        plain_size=st.integers(0, 2**62),
        permanent=st.booleans(),
        incremental=st.booleans(),
        user_data=st.none() | st.dictionaries(_texts, st.booleans() | st.integers(-(2**50), 2**50) | _texts),
        lsn=_numbers,
        delta_lsn=_numbers,
        delta_from=_texts,
        delta_count=_numbers,
    )
)
def test_any_sentinel_survives_writing_and_reading(made: Sentinel) -> None:
    assert Sentinel.decode(made.encode()) == made
    json.loads(made.encode())
