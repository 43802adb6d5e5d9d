"""Damaged archives and interrupted restores: a clear error or a complete cluster, nothing in between."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from walg_core.context import Context
from walg_core.errors import IntegrityError, NoSpace, TransientError, WalgError
from walg_core.pipeline.reader import Reader
from walg_core.storage.layers.base import Layer
from walg_pg.catalog.backups import find_backup
from walg_pg.restore import fetch as engine
from walg_pg.restore.command import Options, fetch, request_of
from walg_pg.restore.fetch import Restore, plan

FULL = "base_000000010000000000000003"
SECOND = "base_000000010000000000000006_D_000000010000000000000003"
LAST = "base_000000010000000000000008_D_000000010000000000000006"
Golden = Callable[[str], Path]
ContextOf = Callable[..., Context]


def tree(top: Path) -> dict[str, tuple[int, str]]:
    """Path → (mode, digest or link target)."""
    out = {}
    for directory, names, files in os.walk(top):
        for name in [*names, *files]:
            path = Path(directory, name)
            if path.is_symlink():
                continue
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else ""
            out[str(path.relative_to(top))] = (path.lstat().st_mode, digest)
    return out


def tar(archive: Path, backup: str, part: str) -> Path:
    return archive / "basebackups_005" / backup / "tar_partitions" / f"{part}.tar.zst"


KILLS = int(os.environ.get("WALG_TEST_FETCH_KILLS", "6"))


@pytest.mark.parametrize("backup", [FULL, SECOND, LAST])
@pytest.mark.parametrize("part", ["part_001", "pg_control", "backup_label"])
def test_every_missing_part_is_named(
    golden: Golden, context_of: ContextOf, tmp_path: Path, backup: str, part: str
) -> None:
    archive = golden("pg18-zstd")
    tar(archive, backup, part).unlink()
    with pytest.raises(WalgError) as raised:
        fetch(context_of(archive), Options(str(tmp_path / "data"), LAST))
    assert part.split("_")[0] in str(raised.value) or "no data" in str(raised.value)
    assert not (tmp_path / "data" / "global" / "pg_control").exists()


@pytest.mark.parametrize("part", ["part_001", "pg_control", "backup_label"])
@pytest.mark.parametrize("backup", [FULL, SECOND, LAST])
def test_every_truncation_is_found(
    golden: Golden, context_of: ContextOf, tmp_path: Path, backup: str, part: str
) -> None:
    archive = golden("pg18-zstd")
    if part != "part_001" and backup != LAST:
        pytest.skip("the special parts of bases are not read")
    path = tar(archive, backup, part)
    whole = path.read_bytes()
    for number in range(8):
        path.write_bytes(whole[: len(whole) * number // 8])
        data = tmp_path / f"data{number}"
        with pytest.raises(WalgError):
            fetch(context_of(archive), Options(str(data), LAST))
        assert not (data / "global" / "pg_control").exists()
        shutil.rmtree(data, ignore_errors=True)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((FULL, "part_001"), (SECOND, "part_001")),
        ((SECOND, "part_001"), (LAST, "part_001")),
        ((SECOND, "pg_control"), (LAST, "pg_control")),
        ((FULL, "backup_label"), (LAST, "backup_label")),
        ((LAST, "part_001"), (LAST, "pg_control")),
        ((LAST, "part_001"), (LAST, "backup_label")),
        ((LAST, "pg_control"), (LAST, "backup_label")),
    ],
)
def test_swapped_parts_are_found(
    golden: Golden, context_of: ContextOf, tmp_path: Path, left: tuple[str, str], right: tuple[str, str]
) -> None:
    archive = golden("pg18-zstd")
    one, two = tar(archive, *left), tar(archive, *right)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    with pytest.raises(IntegrityError):
        fetch(context_of(archive), Options(str(tmp_path / "data"), LAST))
    assert not (tmp_path / "data" / "global" / "pg_control").exists()


@pytest.mark.parametrize("name", ["files_metadata.json", "metadata.json"])
def test_lost_metadata(golden: Golden, context_of: ContextOf, tmp_path: Path, name: str) -> None:
    archive = golden("pg18-zstd")
    (archive / "basebackups_005" / LAST / name).unlink()
    if name == "metadata.json":
        fetch(context_of(archive), Options(str(tmp_path / "data"), LAST))
        return
    with pytest.raises(IntegrityError, match=r"files_metadata\.json"):
        fetch(context_of(archive), Options(str(tmp_path / "data"), LAST))


def test_a_lost_base_is_named(golden: Golden, context_of: ContextOf, tmp_path: Path) -> None:
    archive = golden("pg18-zstd")
    (archive / "basebackups_005" / f"{SECOND}_backup_stop_sentinel.json").unlink()
    with pytest.raises(IntegrityError, match=SECOND):
        fetch(context_of(archive), Options(str(tmp_path / "data"), LAST))


def test_destination_rules(golden: Golden, context_of: ContextOf, tmp_path: Path) -> None:
    context = context_of(golden("pg18-zstd"))
    data = tmp_path / "data"
    data.mkdir()
    (data / "mine").write_text("precious")
    with pytest.raises(WalgError, match="not empty"):
        fetch(context, Options(str(data), LAST))
    assert os.listdir(data) == ["mine"]
    (data / "mine").unlink()
    data.chmod(0o755)
    fetch(context, Options(str(data), LAST))
    assert (data.stat().st_mode & 0o777) == 0o700
    through = tmp_path / "link"
    (tmp_path / "real").mkdir()
    through.symlink_to(tmp_path / "real")
    fetch(context, Options(str(through), LAST))
    assert (tmp_path / "real" / "PG_VERSION").exists()


def test_a_destination_that_cannot_be_made(
    golden: Golden, tmp_path: Path, wal_g: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    archive = golden("pg18-zstd")
    (tmp_path / "file").touch()
    for place, reason in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "below", "Not a directory")):
        done = wal_g("backup-fetch", str(place), LAST, check=False, WALG_FILE_PREFIX=str(archive))
        assert done.returncode == 1
        assert f"cannot restore into {place}: {reason}" in done.stderr
        assert "an empty directory" in done.stderr


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(golden: Golden, context_of: ContextOf, tmp_path: Path, mask: int) -> None:
    context = context_of(golden("pg18-zstd"))
    old = os.umask(mask)
    try:
        fetch(context, Options(str(tmp_path / "data"), LAST))
    finally:
        os.umask(old)
    for path, (mode, _) in tree(tmp_path / "data").items():
        assert mode & 0o777 in (0o600, 0o700), path


class Dropping(Layer):
    """Every reader breaks after `piece` bytes, some with an error and some with a silent end."""

    def __init__(self, inner: object, piece: int) -> None:
        super().__init__(inner)  # type: ignore[arg-type]
        self.piece = piece
        self.opened = 0
        self.read = 0

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        self.opened += 1
        return Breaking(self, self.inner.open(key, offset, length), self.opened % 2 == 0)


class Breaking:
    def __init__(self, owner: Dropping, source: Reader, silent: bool) -> None:
        self.owner, self.source, self.silent, self.left = owner, source, silent, owner.piece

    def read(self, size: int = -1, /) -> bytes:
        if self.left <= 0:
            if self.silent:
                return b""
            raise TransientError("connection lost")
        piece = self.source.read(min(size if size > 0 else self.left, self.left))
        self.left -= len(piece)
        self.owner.read += len(piece)
        return piece

    def close(self) -> None:
        self.source.close()


def test_dropped_downloads_are_continued(
    golden: Golden, context_of: ContextOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("walg_pg.restore.source._FIRST_PAUSE", 0.001)
    context = context_of(golden("pg18-zstd"))
    plain = context.primary_storage()
    request = request_of(context, Options(str(tmp_path / "data"), LAST), find_backup([plain], LAST))
    found = plan([plain], request)
    storage = Dropping(plain, 60_000)
    for link, _ in found.steps:
        link.backup = link.backup._replace(storage=storage)
    Restore(context, found).run()
    assert storage.opened > 50
    assert storage.read <= found.download_size * 1.05
    fetch(context, Options(str(tmp_path / "plain"), LAST))
    assert tree(tmp_path / "data") == tree(tmp_path / "plain")


def test_a_storage_that_stays_down_is_given_up(
    golden: Golden, context_of: ContextOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("walg_pg.restore.source._FIRST_PAUSE", 0.001)
    monkeypatch.setattr("walg_pg.restore.source._LONGEST_PAUSE", 0.001)
    context = context_of(golden("pg18-zstd"))
    plain = context.primary_storage()
    found = plan([plain], request_of(context, Options(str(tmp_path / "data"), LAST), find_backup([plain], LAST)))
    for link, _ in found.steps:
        link.backup = link.backup._replace(storage=Dropping(plain, 0))
    with pytest.raises(TransientError):
        Restore(context, found).run()


def test_no_space_is_said_before_anything_is_written(
    golden: Golden, context_of: ContextOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(golden("pg18-zstd"))
    monkeypatch.setattr(engine.Destination, "free_bytes", lambda self: 1 << 20)
    with pytest.raises(NoSpace, match="MiB"):
        fetch(context, Options(str(tmp_path / "data"), LAST))
    assert os.listdir(tmp_path / "data") == []


def test_a_full_disk_is_named(
    golden: Golden, tmp_path: Path, wal_g: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """A real small file system, where the caller may mount one."""
    archive = golden("pg18-zstd")
    command = [
        "unshare", "-m", "sh", "-c",
        f"mount -t tmpfs -o size=12m none {tmp_path}/small && cd / && "
        f"WALG_FILE_PREFIX={archive} {sys.executable} -m walg_core pg backup-fetch {tmp_path}/small/data {LAST}; "
        f"status=$?; test -e {tmp_path}/small/data/global/pg_control && status=99; exit $status",
    ]  # fmt: skip
    (tmp_path / "small").mkdir()
    probe = subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True)
    if probe.returncode or os.geteuid():
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "MiB free" in done.stderr


def interrupted(archive: Path, data: Path, entries: int) -> int:
    """Start a slow fetch and kill it as soon as that many entries are there; its status."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WALG_", "PG"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "walg_core", "pg", "backup-fetch", str(data), LAST],
        env={**environment, "WALG_FILE_PREFIX": str(archive), "WALG_NETWORK_RATE_LIMIT": str(4 << 20)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and sum(1 for _ in data.rglob("*")) < entries:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    return process.wait()


def test_a_killed_restore_goes_on(
    golden: Golden, tmp_path: Path, wal_g: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    archive = golden("pg18-zstd")
    wal_g("backup-fetch", str(tmp_path / "whole"), LAST, WALG_FILE_PREFIX=str(archive))
    expected = tree(tmp_path / "whole")
    count = sum(1 for _ in (tmp_path / "whole").rglob("*"))
    killed = 0
    for number in range(KILLS):
        data = tmp_path / f"data{number}"
        killed += interrupted(archive, data, count * number // KILLS) < 0
        if killed and not (data / "global" / "pg_control").exists():
            wal_g("backup-fetch", str(data), LAST, WALG_FILE_PREFIX=str(archive))
        assert tree(data) == expected, "what has its pg_control is complete"
        shutil.rmtree(data)
    assert killed


def test_only_the_same_command_goes_on(golden: Golden, context_of: ContextOf, tmp_path: Path) -> None:
    context = context_of(golden("pg18-zstd"))
    data = tmp_path / "data"
    storage = context.primary_storage()
    found = plan([storage], request_of(context, Options(str(data), LAST), find_backup([storage], LAST)))
    restore = Restore(context, found)
    restore.progress.cancelled.set()
    with pytest.raises(WalgError):
        restore.run()
    with pytest.raises(WalgError, match="interrupted restore"):
        fetch(context, Options(str(data), FULL))
    fetch(context, Options(str(data), LAST))
    fetch(context, Options(str(tmp_path / "plain"), LAST))
    assert tree(data) == tree(tmp_path / "plain")
