"""Writing where no file belongs."""

import os

import pytest
from walg_core.io import atomic


def test_devices_and_pipes_are_written_to_not_replaced(tmp_path) -> None:
    """Root may replace `/dev/null` by a file, after which nothing on the machine works."""
    import threading

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    assert atomic.write_file(str(pipe), b"through") == 7
    reader.join(10)
    assert got == [b"through"]
    assert os.listdir(tmp_path) == ["pipe"]
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    assert atomic.write_file(str(link), b"away") == 4
    assert link.is_symlink()
    assert not os.path.isfile("/dev/null")
    with pytest.raises(RuntimeError), atomic.AtomicFile(str(link)):
        raise RuntimeError
    assert sorted(os.listdir(tmp_path)) == ["null", "pipe"]
