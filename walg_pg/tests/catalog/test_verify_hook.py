"""Plugins have their say in `backup-verify`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PLUGIN = """
from walg_core.errors import EngineError
from walg_core.health import Finding
from walg_core.hookspecs import hookimpl

@hookimpl
def walg_verify_backup(context):
    count = sum(1 for _ in context.read_storage().list("basebackups_005/"))
    yield Finding("info", "second copy", f"{count} objects in {context.engine}")
    HERE
"""

Verify = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    """`backup-verify` of an empty archive with a plugin whose hook ends with the given line."""

    def run(line: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        site, archive = tmp_path / "site", tmp_path / "archive"
        info = site / "walg_third-1.0.dist-info"
        info.mkdir(parents=True)
        archive.mkdir()
        (site / "third.py").write_text(PLUGIN.replace("HERE", line))
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: walg-third\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[walg.plugins]\nthird = third\n")
        own = {name: value for name, value in os.environ.items() if not name.startswith(("WALG_", "PG"))}
        path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
        own |= {"PYTHONPATH": path, "WALG_FILE_PREFIX": str(archive), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        command = [sys.executable, "-m", "walg_core", "pg", "backup-verify", *arguments]
        return subprocess.run(command, env=own, capture_output=True, text=True, timeout=60, check=False)

    return run


def test_findings_are_merged(verify: Verify) -> None:
    done = verify("", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert report["findings"] == [{"severity": "info", "subject": "second copy", "message": "0 objects in pg"}]


def test_an_error_fails_the_command(verify: Verify) -> None:
    done = verify("yield Finding('error', 'second copy', 'is gone')")
    assert done.returncode == 1
    assert "ERROR   second copy: is gone" in done.stdout
    assert done.stdout.endswith("FAILED\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [("raise EngineError('no answer')", "no answer"), ("raise KeyError('x')", "KeyError: 'x'")],
)
def test_a_plugin_that_fails_is_a_finding(verify: Verify, line: str, message: str) -> None:
    done = verify(line)
    assert done.returncode == 1
    assert f"ERROR   a plugin's verification: {message}" in done.stdout
