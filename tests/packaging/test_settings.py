"""Settings are declared before they are read, named like settings, and each is declared for something."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from walg_core.discovery import discover

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for pattern in ("core/src", "walg_*/src", "plugins/*/src")
    for source in ROOT.glob(pattern)
    for path in source.rglob("*.py")
)
_READERS = {"get", "is_set", "require", "find", "origin", "setting"}
_NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|PG[A-Z]+")
CATALOG = discover()
SETTINGS = [
    *CATALOG.all_settings(),
    *(setting for engine in CATALOG.engines.values() for setting in engine.settings),
]
PACKAGES = {re.split("[.:]", plugin.target)[0] for plugin in CATALOG.plugins if not plugin.problem}
DECLARED = {name for setting in SETTINGS for name in setting.names}

# For libraries and child processes, which find them in the environment; or accepted for the sake of old configurations.
FOR_OTHERS = re.compile(r"^(WALG_UPLOAD_QUEUE$|AWS_|PG|GPHOME$|OS_|GO|AZURE_|WALG_MYSQL_TAKE_BINLOGS_FROM_MASTER$)")


def test_what_is_read_is_declared() -> None:
    wrong = []
    for path in SOURCES:
        parts = path.relative_to(ROOT).parts
        if parts[parts.index("src") + 1] not in PACKAGES:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            owner = node.func.value
            of_config = (isinstance(owner, ast.Name) and "config" in owner.id) or (
                isinstance(owner, ast.Attribute) and "config" in owner.attr
            )
            word = node.args[0]
            if node.func.attr in _READERS and of_config and isinstance(word, ast.Constant):
                name = word.value
                if isinstance(name, str) and _NAME.fullmatch(name) and name not in DECLARED:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
    assert wrong == []


def words_in_code(tree: ast.Module) -> set[str]:
    """String constants, without the names in declarations."""
    declared = {
        id(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).lower().endswith("setting")
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in declared
    }


def test_what_is_declared_is_used() -> None:
    """The name stands in some code, not only in its declaration, unless that says that it is only accepted."""
    used = {word for path in SOURCES for word in words_in_code(ast.parse(path.read_text()))}
    unused = sorted(
        setting.name
        for setting in SETTINGS
        if not FOR_OTHERS.match(setting.name)
        and "accepted" not in setting.help
        and not setting.name.startswith("WALG_FAILOVER_STORAGES_CACHE_EMA_")
        and used.isdisjoint(setting.names)
    )
    assert unused == []


def test_declarations_are_well_formed() -> None:
    for setting in SETTINGS:
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", setting.name)
        assert setting.help
        assert not setting.help[0].isspace()
        assert not setting.help.endswith(".")


def test_what_hides_is_secret() -> None:
    """Everything that the original hides, and more (spec/config.md 12, 16.7)."""
    names = """
        AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_ACCESS_KEY AWS_SECRET_KEY S3_SSE_C
        AZURE_STORAGE_ACCESS_KEY AZURE_STORAGE_SAS_TOKEN OSS_ACCESS_KEY_ID OSS_ACCESS_KEY_SECRET OSS_SESSION_TOKEN
        WALG_LIBSODIUM_KEY PGPASSWORD WALG_PGP_KEY WALG_PGP_KEY_PASSPHRASE WALG_ENVELOPE_PGP_KEY WALG_REDIS_PASSWORD
        SQLSERVER_CONNECTION_STRING SSH_PASSWORD OS_PASSWORD GCS_ENCRYPTION_KEY WALG_MYSQL_DATASOURCE_NAME
        WALG_MYSQL_BINLOG_SERVER_PASSWORD MONGODB_URI WALG_FAILOVER_STORAGES
    """
    secret = {name for setting in SETTINGS if setting.secret for name in setting.names}
    assert [name for name in names.split() if name in DECLARED and name not in secret] == []
