"""The sample storage of the documentation and the generated skeleton: built, installed, discovered, and conforming."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "write-a-storage.md"


def blocks() -> dict[str, str]:
    """File name → content of the page's code blocks, whose first line names the file."""
    found = re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return dict(found)


def run(*command: str, cwd: Path, path: Path | None = None) -> str:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cwd / "cache"), "HOME": str(cwd)}
    if path:
        environment["PYTHONPATH"] = str(path)
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def build_and_install(project: Path, target: Path) -> None:
    """A wheel by the project's own build backend, unpacked into `target`."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheels")
    wheels = project / "dist"
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels), cwd=project)
    import zipfile

    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)


def check(project: Path, tests: Path, name: str) -> None:
    target = project / "installed"
    build_and_install(project, target)
    report = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests), cwd=project, path=target)
    passed = re.search(r"(\d+) passed", report)
    assert passed
    assert int(passed[1]) >= 60
    assert "failed" not in report
    main = "from walg_core.cli.main import main; main()"
    listed = json.loads(run(sys.executable, "-c", main, "plugins", "--json", cwd=project, path=target))
    assert name in json.dumps(listed)
    command = f"import os; os.environ['WALG_{name.upper()}_PREFIX'] = 'archive.db'; {main}"
    shown = run(sys.executable, "-c", command, "st", "check", "write", cwd=project, path=target)
    assert shown == ""
    suite = run(sys.executable, "-c", command, "st", "conformance", "--only", "range", cwd=project, path=target)
    assert " 0 failed" in suite


def test_the_sample_is_short() -> None:
    files = blocks()
    lines = files["walg_storage_sqlite.py"].splitlines() + files["test_sqlite.py"].splitlines()
    assert len(lines) < 70


def test_the_sample_runs(tmp_path: Path) -> None:
    project = tmp_path / "sample"
    project.mkdir()
    for name, content in blocks().items():
        (project / name).write_text(content)
    check(project, project / "test_sqlite.py", "sqlite")


def test_the_skeleton_runs(tmp_path: Path) -> None:
    project = tmp_path / "generated"
    run(sys.executable, str(ROOT / "plugins/_template/generate.py"), "mystore", str(project), cwd=tmp_path)
    check(project, project / "tests", "mystore")


def test_the_skeleton_is_clean(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    project = tmp_path / "generated"
    run(sys.executable, str(ROOT / "plugins/_template/generate.py"), "mystore", str(project), cwd=tmp_path)
    run(sys.executable, "-m", "mypy", "--strict", str(project / "src"), cwd=tmp_path)


def test_the_generator_refuses(tmp_path: Path) -> None:
    for arguments in (["Not A Name", "x"], ["good", str(tmp_path)]):
        script = str(ROOT / "plugins/_template/generate.py")
        result = subprocess.run([sys.executable, script, *arguments], capture_output=True, check=False)
        assert result.returncode == 1
