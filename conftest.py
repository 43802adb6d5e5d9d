"""Before any test module: pytest names them after their directories, and `walg_pg/tests/…` must not hide `walg_pg`."""

import contextlib
import importlib

for _engine in ("pg", "mysql", "mongo", "redis", "mssql", "fdb", "gp"):
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(f"walg_{_engine}")
