"""The local storage: full disks, modes, hostile names, many objects."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from walg_core.errors import ConfigError, ObjectNotFound, PermanentError, StorageError
from walg_core.io.atomic import is_temporary, temporary_name, write_file
from walg_core.settings.config import Config
from walg_core.storage.keys import check_key, key_problem
from walg_core.storage.local import LocalStorage, create
from walg_core.storage.memory import MemoryStorage
from walg_core.storage.tools.objects import below

FILL = """
import json, os, sys
from walg_core.errors import NoSpace
from walg_core.storage.local import LocalStorage
root, out = sys.argv[1], []
storage = LocalStorage(root)
for number in range(20):
    size = (number + 1) * 100_000
    try:
        storage.put_bytes(f"d{number}/object", b"x" * size)
        out.append([size, "stored", storage.stat(f"d{number}/object").size == size])
        storage.delete([f"d{number}/object"])
    except NoSpace as error:
        out.append([size, "full", f"d{number}/object" in str(error) and "bytes" in str(error) and root in str(error)])
    left = [name for _, _, names in os.walk(root) for name in names]
    out[-1].append(left == [])
print(json.dumps(out))
"""


def check_filling(result: "subprocess.CompletedProcess[str]") -> None:
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert len(rows) == 20
    assert {row[1] for row in rows} == {"stored", "full"}
    assert all(row[2] and row[3] for row in rows), rows


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root to mount a small tmpfs")
def test_a_full_disk(tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o size=1m none {tmp_path} && exec {sys.executable} -c "$1" {tmp_path}'
    command = ["unshare", "-m", "sh", "-c", script, "sh", FILL]
    check_filling(subprocess.run(command, capture_output=True, text=True))


def test_a_file_size_limit(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
    command = [sys.executable, "-c", limit + FILL, str(tmp_path)]
    check_filling(subprocess.run(command, capture_output=True, text=True))


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o777])
def test_modes(tmp_path: Path, mask: int, mode: int) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(mode)
    before = os.umask(mask)
    try:
        storage = LocalStorage(str(root))
        storage.put_bytes("a/b/object", b"x")
        storage.copy("a/b/object", "c/object")
    finally:
        os.umask(before)
    for directory, folders, files in os.walk(root):
        for name in files:
            found = os.stat(os.path.join(directory, name)).st_mode & 0o777
            assert found == mode & 0o775 & 0o666 & ~mask
            assert not found & 0o002
        for name in folders:
            found = os.stat(os.path.join(directory, name)).st_mode & 0o777
            assert not found & 0o002
            assert not found & ~mode


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_an_exact_mode_is_exact(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_file(str(tmp_path / "key"), b"secret", mode=0o640)
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o640


def test_a_prepared_link_is_not_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.write_bytes(b"precious")
    root.mkdir()
    (root / "object").symlink_to(outside)
    LocalStorage(str(root)).put_bytes("object", b"new")
    assert outside.read_bytes() == b"precious"
    assert not (root / "object").is_symlink()


# configuration


@pytest.mark.parametrize("form", ["{}", "file://localhost{}", "file://{}", "{}/"])
def test_prefix_forms(tmp_path: Path, form: str) -> None:
    storage = create(Config(), form.format(tmp_path))
    assert storage.root == str(tmp_path)
    assert storage.identity() == f'fs{{"RootPath":"{tmp_path}"}}'


def test_the_root_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not accessible"):
        create(Config(), str(tmp_path / "missing"))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="not a directory"):
        create(Config(), str(tmp_path / "file"))


def test_a_root_that_went_away_is_not_empty(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    storage = LocalStorage(str(root))
    root.rmdir()
    with pytest.raises(StorageError, match="gone"):
        list(storage.list())
    with pytest.raises(StorageError):
        storage.put_bytes("a", b"x")
    assert not root.exists()


def test_temporaries_are_hidden_and_swept(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    storage.put_bytes("d/object", b"x")
    name = temporary_name("object")
    (tmp_path / "d" / name).write_bytes(b"half")
    assert [info.key for info in storage.list()] == ["d/object"]
    assert list(storage.temporaries(time.time() - 3600)) == []
    assert list(storage.temporaries(time.time() + 1)) == [f"d/{name}"]
    storage.sweep([f"d/{name}"])
    assert os.listdir(tmp_path / "d") == ["object"]
    with pytest.raises(PermanentError):
        storage.sweep(["d/object"])
    with pytest.raises(PermanentError, match="temporary"):
        storage.put_bytes(name, b"x")


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("a.lz4.tmp.20261122T115500Z-0123456789abcdef", True),
        (".tmp.20261122T115500Z-0123456789abcdef", True),
        ("a.tmp.20261122T115500Z-0123456789ABCDEF", False),
        ("a.tmp.20261122T115500Z-0123456789abcde", False),
        ("a.tmp.2026112T1155000Z-0123456789abcdef", False),
        ("a.tmp.20261122 115500Z-0123456789abcdef", False),
        ("a.tmp", False),
    ],
)
def test_the_form_of_temporary_names(name: str, hidden: bool) -> None:
    assert is_temporary(name) == hidden


@given(st.text(min_size=1, max_size=300))
def test_temporary_names_fit_and_are_recognised(name: str) -> None:
    made = temporary_name(name.replace("/", "_").replace("\0", "_").encode("utf-8", "replace").decode())
    assert is_temporary(made)
    assert len(made.encode()) <= 255


# names


HOSTILE = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(["..", ".", "", "a", "b.c", "~", "\\", "\0", "%2e%2e", "C:", "é"]), max_size=6).map(
        "/".join
    ),
    st.binary(max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)


@given(key=HOSTILE)
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_name_leaves_the_root(tmp_path: Path, key: str) -> None:
    root = tmp_path / "jail" / "root"
    root.mkdir(parents=True, exist_ok=True)
    storage = LocalStorage(str(root))
    if key_problem(key):
        for refused in (storage.stat, storage.open, lambda name: storage.put_bytes(name, b"x")):
            with pytest.raises(PermanentError):
                refused(key)
        with pytest.raises(PermanentError):
            storage.delete([key])
    else:
        try:
            storage.put_bytes(key, b"x")
        except StorageError:
            return
        assert [info.key for info in storage.list()] == [key]
        assert os.path.realpath(root / key).startswith(str(root) + "/")
        storage.delete([key])
    assert os.listdir(tmp_path / "jail") == ["root"]
    assert os.listdir(root) == []


def test_a_hundred_thousand_names_are_judged_as_paths_are() -> None:
    """What passes can be joined to any directory and stays below it."""
    import random

    alphabet = ["a", "b", ".", "..", "/", "//", "\\", "\0", "\n", "é", "\udc80", "~", " ", "%", ":"]
    source = random.Random(20261124)
    passed = 0
    for _ in range(100_000):
        key = "".join(source.choices(alphabet, k=source.randint(0, 8)))
        if key_problem(key) is None:
            passed += 1
            path = os.path.normpath("/root/" + check_key(key))
            assert path == "/root/" + key
    assert 5_000 < passed < 95_000


def test_names_on_disk_that_cannot_be_keys_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = LocalStorage(str(tmp_path))
    storage.put_bytes("good", b"x")
    for name in (b"new\nline", b"not-utf8-\xff", b"back\\slash"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"x")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert [info.key for info in storage.list()] == ["good"]
    assert capsys.readouterr().err.count("left out") == 3
    with pytest.raises(ObjectNotFound):
        storage.open("fifo")


# numbers


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_ten_thousand_keys(tmp_path: Path, kind: str) -> None:
    storage = LocalStorage(str(tmp_path)) if kind == "local" else MemoryStorage()
    names = [f"wal_005/{number:024X}.lz4" for number in range(10_000)]
    for name in names:
        if kind == "local":
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        else:
            storage.put_bytes(name, b"")
    started = time.monotonic()
    assert [info.key for info in storage.list()] == names
    assert [info.key for info in storage.list("wal_005/", names[9_000])] == names[9_001:]
    assert storage.list_dirs() == ["wal_005/"]
    assert sum(1 for _ in below(storage, "wal_005")) == 10_000
    assert time.monotonic() - started < 10
    storage.delete(names)
    assert list(storage.list()) == []
