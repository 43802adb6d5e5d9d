"""The page about FoundationDB, executed as it stands, with stand-ins for the tools: no server is to be had."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/foundationdb.md"
TOOLS = {
    "fdbbackup": 'd=${3#file://}/backup-1; mkdir "$d"; cp "$DATABASE" "$d/range,1"; echo submitted; [ -z "$FAIL" ]',
    "fdbrestore": 'cp "${3#file://}/range,1" "$RESTORED"; echo "restored for $6"',
    "wal-g": f'exec {sys.executable} -m walg_core "$@"',
}


def test_the_page_works(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "tmp").mkdir()
    for name, text in TOOLS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "database").write_bytes(os.urandom(100_000))
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    script = "set -e\n" + "".join(blocks).replace("/backups", str(tmp_path / "archive"))

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "archive").mkdir(exist_ok=True)
        environment = {
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path / "tmp"),
            "DATABASE": str(tmp_path / "database"),
            "RESTORED": str(tmp_path / "restored"),
        }
        return subprocess.run(
            ["sh", "-c", script], env=environment | more, capture_output=True, text=True, check=False, timeout=180
        )

    failed = run(FAIL="1")
    assert failed.returncode == 1
    assert not (tmp_path / "restored").exists()
    done = run()
    assert done.returncode == 0, done.stderr
    assert "restored for /etc/foundationdb/fdb.cluster" in done.stderr
    assert (tmp_path / "restored").read_bytes() == (tmp_path / "database").read_bytes()
    assert list((tmp_path / "tmp").iterdir()) == []
