"""Memory of wal-push: what waits for its turn takes none; what is sent is packed on the way, and anew for a retry."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from walg_core.errors import TransientError, WalgError
from walg_core.pipeline.reader import Reader, read_all
from walg_core.testing.contexts import make_context
from walg_pg.journal.packed import FileReader, Gate, Packed

SIZE = 16 << 20
NAMES = [f"00000001000000000000000{number:X}" for number in range(1, 10)]


def segment_bytes(number: int) -> bytes:
    """A segment that does not compress, with a valid first page header."""
    head = (0xD118).to_bytes(2, "little") + (2).to_bytes(2, "little") + (1).to_bytes(4, "little")
    head += (number * SIZE).to_bytes(8, "little") + bytes(8) + (77).to_bytes(8, "little")
    return head + os.urandom(SIZE - len(head))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """PGDATA with nine segments; the last eight are ready behind the first."""
    wal = tmp_path / "data" / "pg_wal"
    (wal / "archive_status").mkdir(parents=True)
    for number, name in enumerate(NAMES, 1):
        (wal / name).write_bytes(segment_bytes(number))
        (wal / "archive_status" / f"{name}.ready").touch()
    return tmp_path / "data"


# Not ru_maxrss, which a process inherits from the one that started it.
PUSH = """
import sys
from walg_core.cli.main import run
status = run(sys.argv[1:], "pg")
print(status, next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize("kind", ["fs", "s3"])
def test_what_waits_does_not_count_in_memory(
    data: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "archive").mkdir()
    archive = {"WALG_FILE_PREFIX": str(tmp_path / "archive")} if kind == "fs" else request.getfixturevalue("s3")
    settings = {**archive, "WALG_UPLOAD_CONCURRENCY": "16", "PGDATA": str(data), "WALG_WAL_PUSH_AHEAD": "false"}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("WALG_", "PG", "AWS_"))}
    done = subprocess.run(
        [sys.executable, "-c", PUSH, "wal-push", str(data / "pg_wal" / NAMES[0])],
        env={**inherited, **settings},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    status, peak = map(int, done.stdout.split())
    with contextlib.closing(make_context(settings)) as context:
        stored = [info.key for info in context.primary_storage().list("wal_005/")]
    assert status == 0, done.stderr
    assert f"wal_005/{NAMES[0]}.lz4" in stored
    markers = sorted(path.name for path in (data / "pg_wal" / "walg_data" / "walg_archive_status").iterdir())
    assert [f"wal_005/{name}.lz4" for name in [NAMES[0], *markers]] == stored
    # The interpreter with the S3 client takes some 30 MB, nine segments of which nothing can be saved 144 MB.
    assert peak < 90 * 1024, f"{peak} KiB"


def test_the_gate_never_lets_in_more_than_fits_and_keeps_the_order() -> None:
    gate = Gate(10)
    first = gate.enter(6)
    inside: list[int] = []
    threads = []
    for number, size in enumerate((6, 1, 100)):
        thread = threading.Thread(target=lambda n=number, s=size: (gate.enter(s), inside.append(n)))
        thread.start()
        threads.append(thread)
        while len(gate._waiting) < number + 1:
            time.sleep(0.001)
    assert inside == [], "the one that would fit waits behind the one that came first"
    gate.leave(first)
    threads[0].join()
    threads[1].join()
    assert sorted(inside) == [0, 1]
    gate.leave(6)
    gate.leave(1)
    threads[2].join()
    assert gate._inside == 10, "what is larger than everything goes alone"


def test_a_retry_packs_anew(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(segment_bytes(1))
    context = make_context({"WALG_FILE_PREFIX": str(tmp_path)})
    source, gate = FileReader(str(path)), Gate(24 << 20)
    body = Packed(context, source, gate, SIZE)
    tries: list[int] = []

    class Failing:
        """Breaks off in the middle, twice."""

        def put(self, body: Reader) -> bytes:
            tries.append(len(read_all(body, 5 << 20)))
            if len(tries) < 3:
                raise TransientError("lost")
            return b""

    for _ in range(2):
        with pytest.raises(TransientError):
            Failing().put(body)
        assert body.tell() == tries[-1]
        body.seek(0)
    whole = read_all(body)
    assert len(whole) == body.tell() > SIZE
    assert gate._inside == SIZE, "what does not compress is counted with its own size"
    body.close()
    assert gate._inside == 0
    source.close()


def test_a_file_that_changes_its_size_is_not_archived(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for change in (bytes(3 << 20), bytes(1 << 20)):
        path.write_bytes(bytes(2 << 20))
        source = FileReader(str(path))
        path.write_bytes(change)
        with pytest.raises(WalgError, match="changed its size"):
            read_all(source)
        source.close()
