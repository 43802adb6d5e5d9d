"""`restore-test`: a backup restored into a scratch directory, recovered by a private server, and questioned."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from walg_core.errors import EngineError, WalgError
from walg_core.observe import log

from walg_pg.cluster import Cluster, find_binaries
from walg_pg.restore.command import Options, fetch
from walg_pg.restore.recovery import Target, restore_command

if TYPE_CHECKING:
    from walg_core.context import Context

    from walg_pg.restore.fetch import Plan

_HBA = "local all all trust\n"


@dataclass(slots=True)
class Step:
    """One thing that was tried; `seconds` it took; `message` is the result or what went wrong."""

    name: str
    ok: bool
    seconds: float
    message: str


@dataclass(slots=True)
class Trial:
    """The report. `ok`: every step went well."""

    backup: str = ""
    directory: str = ""
    steps: list[Step] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return bool(self.steps) and all(step.ok for step in self.steps)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        rows = [
            {"name": each.name, "ok": each.ok, "seconds": round(each.seconds, 3), "message": each.message}
            for each in self.steps
        ]
        return {"ok": self.ok, "backup": self.backup, "directory": self.directory, "steps": rows}

    def as_text(self) -> str:
        """Lines for people."""
        lines = [f"restore test of {self.backup}"]
        for each in self.steps:
            lines.append(f"  {'ok    ' if each.ok else 'FAILED'} {each.name} ({each.seconds:.1f} s): {each.message}")
        lines.append("OK" if self.ok else "FAILED")
        return "\n".join(lines)


@dataclass(slots=True)
class Wishes:
    """What to test. `sql`: statements, each of which must succeed and return no row that is false or null."""

    name: str = "LATEST"
    directory: str = ""
    sql: tuple[str, ...] = ()
    database: str = "postgres"
    user: str = "postgres"
    target: Target = field(default_factory=Target)
    settings: dict[str, str] = field(default_factory=dict)
    timeout: float = 3600.0
    keep: bool = False


def run(context: Context, wishes: Wishes) -> Trial:
    """Carry out the test; a failing step ends it and is in the report. The scratch directory is removed."""
    trial = Trial()
    scratch = Path(tempfile.mkdtemp(prefix="walg-restore-test-", dir=wishes.directory or None))
    # A server of another user must reach what is inside.
    scratch.chmod(0o755)
    trial.directory = str(scratch / "data")
    try:
        _steps(context, wishes, trial)
    except (WalgError, OSError) as error:
        if not trial.steps or trial.steps[-1].ok:
            trial.steps.append(Step("set up", False, 0.0, str(error)))
    finally:
        if not wishes.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    return trial


def _steps(context: Context, wishes: Wishes, trial: Trial) -> None:
    plan: Plan = _timed(trial, "restore", lambda: _fetch(context, wishes, trial), lambda p: f"{len(p.chain)} backups")
    version = plan.newest.sentinel.pg_version
    binaries = _timed(trial, "find the server", lambda: find_binaries(version // 10000), str)
    with Cluster(
        trial.directory,
        binaries=binaries,
        settings=_server_settings(context, trial.directory, wishes),
        environment=_environment(),
    ) as cluster:
        cluster.user = wishes.user
        (cluster.socket_directory / "pg_hba.conf").write_text(_HBA)
        (cluster.socket_directory / "pg_ident.conf").touch()
        cluster.settings["hba_file"] = str(cluster.socket_directory / "pg_hba.conf")
        cluster.settings["ident_file"] = str(cluster.socket_directory / "pg_ident.conf")
        cluster.own(cluster.socket_directory)
        _timed(
            trial,
            "recover",
            lambda: cluster.start(timeout=wishes.timeout, wait_for="promoted"),
            lambda _: _end(cluster),
        )
        _timed(trial, "read every catalog", lambda: _databases(cluster), lambda names: f"databases {', '.join(names)}")
        if (binaries / "pg_amcheck").exists():
            _timed(trial, "pg_amcheck", lambda: _amcheck(cluster), lambda _: "every heap and index is consistent")
        for sql in wishes.sql:
            _timed(trial, f"sql {sql[:60]}", partial(_ask, cluster, sql, wishes.database), str)


def _timed(trial: Trial, name: str, what: Callable[[], Any], describe: Callable[[Any], str]) -> Any:
    began = time.monotonic()
    log.info(f"restore test: {name}")
    try:
        result = what()
        message = describe(result)
    except (WalgError, OSError) as error:
        trial.steps.append(Step(name, False, time.monotonic() - began, str(error)))
        raise
    trial.steps.append(Step(name, True, time.monotonic() - began, message))
    return result


def _fetch(context: Context, wishes: Wishes, trial: Trial) -> Plan:
    name = "" if wishes.target and wishes.name == "LATEST" else wishes.name
    target = wishes.target if wishes.target else Target(action="promote")
    plan = fetch(context, Options(trial.directory, name, target=target, config_file=context.config.file_name))
    trial.backup = plan.newest.name
    data = Path(trial.directory)
    if not (data / "postgresql.conf").exists():
        # Debian keeps the configuration elsewhere; the defaults do for a test.
        (data / "postgresql.conf").touch()
    return plan


def _server_settings(context: Context, data: str, wishes: Wishes) -> dict[str, str]:
    return {
        "restore_command": restore_command(context, context.config.file_name),
        "recovery_target_action": "promote",
        "archive_mode": "off",
        "ssl": "off",
        "config_file": os.path.join(data, "postgresql.conf"),
        "data_directory": data,
        "shared_buffers": "64MB",
        **wishes.settings,
    }


def _environment() -> dict[str, str]:
    """What `wal-fetch` needs to find the archive: this process's own configuration."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _end(cluster: Cluster) -> str:
    row = cluster.query("select timeline_id, checkpoint_lsn::text from pg_control_checkpoint()").split("|")
    return f"on timeline {row[0]}, its checkpoint at {row[1]}"


def _databases(cluster: Cluster) -> list[str]:
    names = cluster.query("select datname from pg_database where datallowconn order by 1").splitlines()
    for name in names:
        cluster.query("select count(*), sum(pg_relation_size(oid)) from pg_class", name)
    return names


def _amcheck(cluster: Cluster) -> str:
    return cluster.run("pg_amcheck", "--all", "--install-missing", "--heapallindexed", timeout=24 * 3600)


def _ask(cluster: Cluster, sql: str, database: str) -> str:
    answer = cluster.query(sql, database)
    if any(cell in ("f", "") for row in answer.splitlines() for cell in row.split("|")):
        raise EngineError(f"the answer has false or null values: {answer[:500]}")
    return answer[:500]
