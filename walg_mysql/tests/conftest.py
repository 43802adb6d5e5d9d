"""A private MariaDB of this machine and the engine's own script, pointed at it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from walg_mysql.sentinel import Sentinel

PROGRAMS = ("mariadbd", "mariadb-install-db", "mariadb-backup", "mbstream", "mariadb", "mariadb-binlog")
_SECONDS = 60


def _user() -> list[str]:
    return ["--user=root"] if os.getuid() == 0 else []


class MariaDb:
    """One private server on a data directory; starts and stops. Its root user has no password."""

    def __init__(self, data: Path, *options: str, server_id: int = 1) -> None:
        self.data = data
        self.options = options
        self.server_id = server_id
        self.socket = data.parent / f"{data.name}.sock"
        self.process: subprocess.Popen[bytes] | None = None
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = int(taken.getsockname()[1])

    @property
    def dsn(self) -> str:
        return f"root@tcp(127.0.0.1:{self.port})/mysql"

    def start(self) -> "MariaDb":
        words = [
            "mariadbd", "--no-defaults", *_user(), f"--datadir={self.data}", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--socket={self.socket}", f"--server-id={self.server_id}",
            "--innodb-buffer-pool-size=32M", "--skip-name-resolve", *self.options,
        ]  # fmt: skip
        with (self.data.parent / f"{self.data.name}.log").open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            try:
                self.connect().close()
            except pymysql.err.OperationalError:
                time.sleep(0.05)
            else:
                return self
        self.stop()
        raise AssertionError(f"the server does not start:\n{Path(log.name).read_text()[-4000:]}")

    def connect(self) -> Any:
        return pymysql.connect(host="127.0.0.1", port=self.port, user="root", autocommit=True)

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Execute the statements; the rows of the last one."""
        rows: list[tuple[Any, ...]] = []
        with self.connect() as connection, connection.cursor() as cursor:
            for sql in statements:
                cursor.execute(sql)
                rows = list(cursor.fetchall())
        return rows

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(_SECONDS)

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(_SECONDS)


class Field:
    """A directory with an archive and the engine's own script."""

    def __init__(self, path: Path, template: Path | None = None) -> None:
        self.path = path
        self.archive = path / "archive"
        self.archive.mkdir()
        self._template = template
        self.servers: list[MariaDb] = []
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": str(path),
            "WALG_MYSQL_BINLOGS_CACHE": str(path / ".walg_mysql_binlogs_cache"),
            "SHELL": "/bin/sh",
            "TMPDIR": str(path),
            "WALG_FILE_PREFIX": str(self.archive),
            "WALG_COMPRESSION_METHOD": "zstd",
        }

    def server(self, name: str = "data", *options: str, fresh: bool = True, server_id: int = 1) -> MariaDb:
        """A started server; `fresh` on new data, else on what the directory `name` holds."""
        data = self.path / name
        if fresh:
            assert self._template is not None
            shutil.copytree(self._template, data)
        made = MariaDb(data, *options, server_id=server_id)
        self.servers.append(made)
        return made.start()

    def aim(self, server: MariaDb, restored: Path) -> None:
        """Back up that server with mariadb-backup, restore into `restored`."""
        tool = (
            f"mariadb-backup --no-defaults --backup --stream=xbstream --host=127.0.0.1 --port={server.port} --user=root"
            f" --datadir={server.data} --target-dir={self.path}/none"
        )
        self.environment |= {
            "WALG_MYSQL_DATASOURCE_NAME": server.dsn,
            "WALG_STREAM_CREATE_COMMAND": tool,
            "WALG_STREAM_RESTORE_COMMAND": f"mbstream -x -C {restored}",
            "WALG_MYSQL_BACKUP_PREPARE_COMMAND": f"mariadb-backup --prepare --target-dir={restored}",
            "WALG_MYSQL_DATA_DIR": str(restored),
            "WALG_MYSQL_INCREMENTAL_BACKUP_DST": str(self.path / "increments"),
        }

    def popen(self, *words: str, **more: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-c", "from walg_mysql.script import main; main()", *words],
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *words: str, status: int = 0, **more: str) -> tuple[str, str]:
        process = self.popen(*words, **more)
        out, err = (data.decode() for data in process.communicate(timeout=180))
        assert process.returncode == status, err
        return out, err

    def names(self) -> list[str]:
        return [line.split()[0] for line in self.run("backup-list")[0].splitlines()[1:]]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A freshly initialised data directory, made once."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        pytest.skip(f"not on this machine: {', '.join(missing)}")
    path = tmp_path_factory.mktemp("mariadb") / "template"
    words = ["mariadb-install-db", "--no-defaults", *_user(), f"--datadir={path}"]
    words += ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
    subprocess.run(words, check=True, capture_output=True, timeout=_SECONDS)
    return path


@pytest.fixture
def field(template: Path, tmp_path: Path) -> Iterator[Field]:
    """With real servers."""
    made = Field(tmp_path, template)
    yield made
    for server in made.servers:
        server.stop()


# Stand-ins. No MySQL server and no xtrabackup come from a package registry; the tests of the default run use these,
# those marked `services` a real MariaDB and mariadb-backup.

TOOL = f"""#!{sys.executable}
import os, sys, time
from walg_core.pipeline.reader import BytesReader
from walg_mysql.xbstream.writer import Writer
options = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:] if "=" in word)
start = 0 if os.environ.get("FAKE_IGNORES") else int(options.get("incremental-lsn", 0))
end = os.environ.get("FAKE_LSN", "1000")
out = sys.stdout.buffer
writer = Writer(out.write)
size = int(os.environ.get("FAKE_SIZE", 100000))
writer.add("ibdata1", BytesReader(f"from {{start}} to {{end}} ".encode() * (size // 10)))
writer.add("shop/t.ibd", BytesReader(b"t" * size))
out.flush()
print("tool: backing up", file=sys.stderr, flush=True)
time.sleep(float(os.environ.get("FAKE_SLEEP", 0)))
if os.environ.get("FAKE_FAIL"):
    sys.exit("tool: tablespace is corrupt")
if "extra-lsndir" in options and not os.environ.get("FAKE_SILENT"):
    name = os.environ.get("FAKE_CHECKPOINTS", "xtrabackup_checkpoints")
    with open(os.path.join(options["extra-lsndir"], name), "w") as file:
        file.write(f"backup_type = full\\nfrom_lsn = {{start}}\\nto_lsn = {{end}}\\nlast_lsn = {{end}}\\n")
"""
PREPARE = """#!/bin/sh
echo "$(basename "$0") $*" >> {calls}
for word in "$@"; do
  case $word in --incremental-dir=*) head -c 20 "${{word#*=}}/ibdata1" >> {calls}; echo >> {calls};; esac
done
[ -z "$FAKE_PREPARE_FAILS" ] || {{ echo "prepare: log is corrupt" >&2; exit 1; }}
"""
UNPACK = f"""#!{sys.executable}
import sys
from walg_mysql.xbstream.extract import extract
from walg_mysql.xbstream.files import open_input
extract(open_input(""), sys.argv[2])
"""
SCRIPT = """
import os, sys

class Server:
    version = os.environ.get("FAKE_VERSION", "8.0.35-27")
    is_mariadb = "MariaDB" in version
    @classmethod
    def from_config(cls, config): return cls()
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def uuid(self):
        return "" if self.is_mariadb else os.environ.get("FAKE_UUID", "3e11fa47-71ca-11e1-9e33-c80aa9429562")
    def executed_gtids(self):
        from walg_mysql.journal.gtid import MysqlGtidSet, MariadbGtidSet
        text = os.environ.get("FAKE_GTIDS", "")
        return MariadbGtidSet.parse(text) if self.is_mariadb else MysqlGtidSet.parse(text)
    def rows(self, sql): return [("Innodb_lsn_current", os.environ.get("FAKE_CURRENT_LSN", "99999"))]
    def value(self, sql): return os.environ.get("FAKE_DATADIR", "/nowhere")

if sys.argv[1].endswith("-push"):
    import walg_mysql.backup.push as push
    push.Server = Server
from walg_mysql.script import main
main()
"""


class StandIn(Field):
    """A field whose server and backup tool are stand-ins; `preamble` is code that runs before ours."""

    preamble = ""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        tools = path / "bin"
        tools.mkdir()
        self.calls = path / "calls"
        self.restored = path / "restored"
        self.restored.mkdir()
        recorder = PREPARE.format(calls=self.calls)
        for name, text in (("xtrabackup", TOOL), ("prepare", recorder), ("mariabackup", recorder), ("unpack", UNPACK)):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        (path / "tmp").mkdir()
        self.environment |= {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "TMPDIR": str(path / "tmp"),
            "WALG_MYSQL_DATASOURCE_NAME": "root@tcp(127.0.0.1:1)/",
            "WALG_STREAM_CREATE_COMMAND": "xtrabackup --backup --stream=xbstream",
            "WALG_STREAM_RESTORE_COMMAND": f"unpack -C {self.restored}",
            "WALG_MYSQL_BACKUP_PREPARE_COMMAND": f"prepare --target-dir={self.restored}",
            "WALG_MYSQL_DATA_DIR": str(self.restored),
            "WALG_MYSQL_INCREMENTAL_BACKUP_DST": str(path / "increments"),
        }

    def popen(self, *words: str, **more: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-c", self.preamble + SCRIPT, *words],
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def sentinels(self) -> list[Sentinel]:
        """Oldest first."""
        folder = self.archive / "basebackups_005"
        return [Sentinel.decode(path.read_bytes()) for path in sorted(folder.glob("*_backup_stop_sentinel.json"))]

    def objects(self) -> list[str]:
        return sorted(str(path.relative_to(self.archive)) for path in self.archive.rglob("*") if path.is_file())


@pytest.fixture
def standin(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path)
