"""Full and delta backups of a real server, compared with the original's archives and restored."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "pg18-zstd" / "storage" / "basebackups_005"
FULL = "base_000000010000000000000003"


def shape(value: Any) -> Any:
    """Types and keys in their order, without the values."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(each) for each in value[:1]] if isinstance(value, list) else type(value).__name__


@pytest.fixture(scope="module")
def full(site) -> str:
    return site.push("--full")


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden archives at {GOLDEN}")
def test_objects_have_the_form_of_the_original(site, full: str) -> None:
    golden = json.loads((GOLDEN / f"{FULL}_backup_stop_sentinel.json").read_text())
    ours = site.json(full)
    golden["Spec"] = ours["Spec"] = {key: each for key, each in ours["Spec"].items() if not key.isdigit()}
    assert list(ours) == list(golden)
    assert shape(ours) == shape(golden)
    golden = json.loads((GOLDEN / FULL / "metadata.json").read_text())
    assert list(site.json(full, "metadata.json")) == list(golden)
    assert shape(site.json(full, "metadata.json")) == shape(golden)
    golden = json.loads((GOLDEN / FULL / "files_metadata.json").read_text())
    ours = site.json(full, "files_metadata.json")
    assert list(ours) == list(golden)
    assert shape(ours["Files"]["/PG_VERSION"]) == shape(golden["Files"]["/PG_VERSION"])
    assert ours["TarFileSets"].keys() == {"part_001.tar.lz4", "backup_label.tar.lz4"}
    assert ours["TarFileSets"]["backup_label.tar.lz4"] == golden["TarFileSets"]["backup_label.tar.zst"]
    assert shape(ours["DatabasesByNames"]["postgres"]["tables_new"]["pg_catalog.pg_class"]) == shape(
        golden["DatabasesByNames"]["postgres"]["tables_new"]["pg_catalog.pg_class"]
    )
    common = [name for name in golden["TarFileSets"]["part_001.tar.zst"] if not any(part.isdigit() for part in name)]
    directories = [name for name in common if name.count("/") == 1 and "." not in name and "conf" not in name]
    present = [name for name in ours["TarFileSets"]["part_001.tar.lz4"] if name in directories]
    assert present == [name for name in directories if name in present]
    assert {"/", "/base", "/global", "/pg_tblspc", "/pg_wal"} <= set(present)


def test_tars_hold_what_the_lists_say(site, full: str, members) -> None:
    lists = site.json(full, "files_metadata.json")
    tars = site.tars(full)
    assert tars.keys() == {"part_001.tar.lz4", "pg_control.tar.lz4", "backup_label.tar.lz4"}
    entries = members(tars["part_001.tar.lz4"])
    names = [header[:100].rstrip(b"\0").decode() for header, _ in entries]
    assert names == lists["TarFileSets"]["part_001.tar.lz4"] == list(lists["Files"])
    for (header, data), name in zip(entries, names, strict=True):
        if header[156:157] == b"0" and name.startswith("/base/1/"):
            assert data == (site.data / name[1:]).read_bytes(), name
    assert "/postmaster.pid" not in names
    assert not [name for name in names if name.startswith("/pg_wal/")]
    (control,) = members(tars["pg_control.tar.lz4"])
    assert control[0].startswith(b"/global/pg_control\0")
    assert len(control[1]) == 8192
    label, tablespaces = members(tars["backup_label.tar.lz4"])
    assert (label[0][:13], tablespaces[0][:15]) == (b"backup_label\0", b"tablespace_map\0")
    assert b"START WAL LOCATION" in label[1]
    sentinel = site.json(full)
    assert sentinel["UncompressedSize"] == sum(len(data) for tar in tars.values() for _, data in members(tar))


def test_chain_of_deltas_is_restored(site, full: str) -> None:
    names = [full]
    for step in range(3):
        site.query(f"update t set v = 'step {step}' where id % 997 = {step}")
        site.query(f"insert into u select g, 'step {step}' from generate_series({10000 + step}, {10500 + step}) g")
        summaries = "true" if step == 2 else "false"
        names.append(site.push(WALG_DELTA_MAX_STEPS="5", WALG_USE_WAL_SUMMARIES=summaries))
        assert names[-1].endswith("_D_" + names[-2][5:29])
    expected = site.contents()
    last = site.json(names[-1])
    assert (last["DeltaFrom"], last["DeltaFullName"], last["DeltaCount"]) == (names[-2], full, 3)
    assert last["UncompressedSize"] < site.json(full)["UncompressedSize"] / 5
    files = site.json(names[-1], "files_metadata.json")["Files"]
    assert any(row["IsIncremented"] for row in files.values())
    assert any(row["IsSkipped"] for row in files.values())
    assert site.restored(names[-1]) == expected


@pytest.mark.parametrize("flag", ["--rating-composer", "--database-composer", "--copy-composer"])
def test_composers(site, full: str, flag: str) -> None:
    settings = {"WALG_TAR_SIZE_THRESHOLD": "2000000", "WALG_UPLOAD_DISK_CONCURRENCY": "3"}
    if flag == "--copy-composer":
        site.push(**settings)
    name = site.push(flag, **settings)
    lists = site.json(name, "files_metadata.json")
    packed = [each for part, names in lists["TarFileSets"].items() if part[:6] != "backup" for each in names]
    assert sorted(packed) == sorted(lists["Files"])
    assert any(part.startswith("copy_") for part in lists["TarFileSets"]) == (flag == "--copy-composer")
    assert len(lists["TarFileSets"]) > 4
    assert site.restored(name) == site.contents()


def test_turbo_and_direct_reads(site) -> None:
    name = site.push("--full", "--turbo", WALG_DIRECT_IO="true", WALG_DISK_RATE_LIMIT="1000")
    delta = site.push("--verify", WALG_DIRECT_IO="true", WALG_DIRECT_IO_BLOCK_COUNT="3", WALG_DELTA_MAX_STEPS="1")
    assert site.json(delta)["DeltaFrom"] == name
    assert site.restored(delta) == site.contents()


def test_without_a_file_list(site) -> None:
    name = site.push("--without-files-metadata", WALG_DELTA_MAX_STEPS="5")
    assert site.json(name)["FilesMetadataDisabled"] is True
    assert not (site.archive / "basebackups_005" / name / "files_metadata.json").exists()
    # Nothing can be compared with such a base: the next backup is full though deltas are wanted.
    assert "_D_" not in site.push(WALG_DELTA_MAX_STEPS="5")


def test_permanent_deltas_make_their_chain_permanent(site) -> None:
    base = site.push("--full", "--permanent", "--add-user-data", '{"b": 1, "a": [true]}')
    assert site.json(base, "metadata.json")["user_data"] == {"a": [True], "b": 1}
    assert "_D_" not in site.push(WALG_DELTA_MAX_STEPS="5", WALG_DELTA_FROM_NAME=base)
    found = site.push("--delta-from-user-data", '{"a":[true],"b":1}', "-p", WALG_DELTA_MAX_STEPS="5")
    assert site.json(found)["DeltaFrom"] == base
    plain = site.push("--full")
    delta = site.push("--permanent", WALG_DELTA_MAX_STEPS="5")
    assert site.json(delta)["DeltaFrom"] == plain
    assert site.json(plain, "metadata.json")["is_permanent"] is True
    assert site.json(plain)["IsPermanent"] is False


def test_remote_backup_is_restored(site) -> None:
    before = set(site.names())
    site.wal_g("backup-push", "--permanent", WALG_TAR_SIZE_THRESHOLD="4000000")
    (name,) = set(site.names()) - before
    assert site.json(name)["Spec"]["tablespaces"]
    assert "DataCatalogSize" not in site.json(name)
    assert site.json(name, "files_metadata.json").keys() == {"Files"}
    assert "global/pg_control" in site.json(name, "files_metadata.json")["Files"]
    assert site.restored(name) == site.contents()


def test_odd_files_in_the_data_directory(site) -> None:
    odd = site.data / "odd"
    odd.mkdir()
    try:
        (odd / "link").symlink_to("/nowhere/at all")
        (odd / "ä ö").write_text("text")
        (odd / os.fsdecode(b"\xff\xfe")).write_text("bytes")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(odd / "socket"))
            name = site.push("--full")
        files = site.json(name, "files_metadata.json")["Files"]
        raw = (site.archive / "basebackups_005" / name / "files_metadata.json").read_bytes()
        assert raw.decode().count("\\udcff\\udcfe") == 2
        assert {"/odd/link", "/odd/ä ö", "/odd/\udcff\udcfe"} <= files.keys()
        assert "/odd/socket" not in files
        assert b"/nowhere/at all" in site.tars(name)["part_001.tar.lz4"]
    finally:
        for path in odd.iterdir():
            path.unlink()
        odd.rmdir()


def test_bad_input_is_explained(site, tmp_path: Path) -> None:
    def refused(*arguments: str, **settings: str) -> str:
        before = site.names()
        done = site.wal_g("backup-push", *arguments, check=False, **settings)
        assert done.returncode == 1
        assert site.names() == before
        assert "Traceback" not in done.stderr
        return done.stderr

    (tmp_path / "global").mkdir()
    assert "not a readable data directory" in refused(str(tmp_path))
    for name in ("PG_VERSION", "global/pg_control"):
        (tmp_path / name).write_text("18")
    assert "is not the server's" in refused(str(tmp_path))
    assert "cannot connect" in refused(str(site.data), PGPORT="1")
    assert "WALG_PG_WAL_SIZE=16" in refused(str(site.data), WALG_PG_WAL_SIZE="64")
    assert "not valid JSON" in refused(str(site.data), "--add-user-data", "{")
    assert "regular composer" in refused(str(site.data), "--without-files-metadata", "--rating-composer")
    assert "exist" in refused(str(site.data), "--delta-from-name", "base_nothing", WALG_DELTA_MAX_STEPS="3")
    assert "/dev/null" in refused(str(site.data), WALG_FILE_PREFIX="/dev/null/archive")


def until_begun(site) -> None:
    """Wait for a backup that is in backup mode and has its claim."""
    deadline = time.monotonic() + 120
    while not any((site.archive / "basebackups_005").glob("walg_claim_*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_signal_leaves_the_server_clean(site) -> None:
    before = site.names()
    process = site.start_wal_g("backup-push", str(site.data), WALG_DISK_RATE_LIMIT="2000000")
    until_begun(site)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "the server has left backup mode" in errors
    assert not site.in_backup()
    assert site.names() == before
    assert not any((site.archive / "basebackups_005").glob("walg_claim_*")), "the claim is given up, too"
    site.push()


def test_a_second_backup_at_the_same_time_is_refused(site) -> None:
    process = site.start_wal_g("backup-push", str(site.data), WALG_DISK_RATE_LIMIT="8000000")
    until_begun(site)
    process.send_signal(signal.SIGSTOP)
    for arguments in ([str(site.data)], []):
        done = site.wal_g("backup-push", *arguments, check=False)
        assert done.returncode == 1
        assert "another backup-push of this server" in done.stderr
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_a_server_that_dies_ends_the_backup(old_site) -> None:
    before = old_site.names()
    process = old_site.start_wal_g("backup-push", str(old_site.data), WALG_DISK_RATE_LIMIT="2000000")
    until_begun(old_site)
    old_site.cluster.stop("immediate")
    try:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "connection" in errors
        assert old_site.names() == before
    finally:
        old_site.cluster.start()


def test_postgresql_15(old_site) -> None:
    old_site.push()
    old_site.query("update t set v = 'new' where id < 100")
    delta = old_site.push("--verify", WALG_DELTA_MAX_STEPS="3", WALG_UPLOAD_DISK_CONCURRENCY="2")
    assert "_D_" in delta
    assert old_site.restored(delta) == old_site.contents()
    before = set(old_site.names())
    old_site.wal_g("backup-push")
    (remote,) = set(old_site.names()) - before
    assert old_site.restored(remote) == old_site.contents()
