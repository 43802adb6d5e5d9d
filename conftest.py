"""Before any test module: pytest names them after their directories, and `walg_pg/tests/…` must not hide `walg_pg`."""

import contextlib
import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "shared" / "golden"

for _engine in ("pg", "mysql", "mongo", "redis", "mssql", "fdb", "gp"):
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(f"walg_{_engine}")

with contextlib.suppress(ModuleNotFoundError):
    from hypothesis import HealthCheck, settings

    # How fast the machine makes examples says nothing about the code.
    settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("calm")


@pytest.fixture(scope="session", autouse=True)
def _enterable(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Servers that refuse root run as another user, who must get through the directories above their data."""
    if os.getuid() == 0:
        base = tmp_path_factory.getbasetemp()
        root = base.parent if base.name.startswith("popen-") else base
        for directory in (base, root, *root.parents):
            if directory in (base, root) or directory.name.startswith("pytest-"):
                directory.chmod(directory.stat().st_mode | 0o111)


@pytest.fixture
def golden(tmp_path: Path) -> Callable[[str], Path]:
    """A writable copy of an archive that the original made, with its objects' times; the same one for each call."""

    def prepare(name: str) -> Path:
        source, target = GOLDEN / name, tmp_path / name
        if not source.is_dir():
            pytest.skip(f"no golden archives at {GOLDEN}")
        if not target.exists():
            shutil.copytree(source / "storage", target)
            for key, stamp in json.loads((source / "mtimes.json").read_text()).items():
                os.utime(target / key, ns=(stamp, stamp))
        return target

    return prepare
