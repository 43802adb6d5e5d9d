"""`wal-g crypto check`: can what is configured decrypt what it encrypts, and if not, what is missing?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Annotated

import typer

from walg_core.context import Context
from walg_core.crypto.api import Crypter
from walg_core.errors import IntegrityError, WalgError
from walg_core.health import Check
from walg_core.pipeline.reader import BytesReader, read_all

app = typer.Typer(name="crypto", help="Encryption.", no_args_is_help=True, rich_markup_mode=None)
_SIZES = (0, 1, 1_000_000)
_MARKS = {"ok": "OK", "warning": "WARNING", "failed": "FAILED"}


def register(application: typer.Typer) -> None:
    """Add the group `crypto`."""
    application.add_typer(app, name="crypto")


@app.callback()
def _group() -> None:
    return


@app.command()
def check(
    ctx: typer.Context,
    write_only: Annotated[
        bool, typer.Option("--write-only", help="this machine only backs up: do not ask for the private part")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Encrypt and decrypt test data as configured.

    The storage is not touched.

    Exits with 1 when something is missing or no cipher is configured.

    \b
    Examples:
      wal-g crypto check
      wal-g crypto check --write-only
    """
    context: Context = ctx.obj
    checks = list(_checks(context, write_only=write_only))
    if as_json:
        rows = [{"name": c.name, "status": c.status, "message": c.message, "hint": c.hint} for c in checks]
        typer.echo(json.dumps(rows, indent=2))
    else:
        for each in checks:
            typer.echo(f"{_MARKS[each.status]:<8} {each.name:<8} {each.message}")
            if each.hint and each.status != "ok":
                typer.echo(f"{'':<17} hint: {each.hint}")
    if any(each.status == "failed" for each in checks):
        raise typer.Exit(1)


def _checks(context: Context, *, write_only: bool) -> Iterator[Check]:
    try:
        crypter = context.crypter()
    except WalgError as error:
        yield Check("cipher", "failed", str(error), error.hint or "")
        return
    if crypter is None:
        yield Check(
            "cipher", "failed", "none is configured: objects are stored unencrypted", "see docs/how-to/encrypt.md"
        )
        return
    yield Check("cipher", "ok", crypter.name)
    try:
        sealed = [_encrypted(crypter, os.urandom(size)) for size in _SIZES]
    except WalgError as error:
        yield Check("encrypt", "failed", str(error), error.hint or "")
        return
    yield Check("encrypt", "ok", "test data of several sizes")
    if not write_only:
        yield _decrypt(crypter, sealed)


def _encrypted(crypter: Crypter, plain: bytes) -> tuple[bytes, bytes]:
    stored = read_all(crypter.encrypt(BytesReader(plain)))
    if plain and plain[:32] in stored and len(plain) > 32:
        raise IntegrityError("what the cipher gives holds the plain data")
    return plain, stored


def _decrypt(crypter: Crypter, sealed: list[tuple[bytes, bytes]]) -> Check:
    try:
        for plain, stored in sealed:
            if read_all(crypter.decrypt(BytesReader(stored))) != plain:
                return Check("decrypt", "failed", f"{len(plain)} bytes come back as something else", "report this")
    except WalgError as error:
        return Check("decrypt", "failed", str(error), error.hint or "")
    return Check("decrypt", "ok", "all of it came back")
