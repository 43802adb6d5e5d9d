"""On a real terminal: transfers are shown, the result stays readable, nothing is left on the line."""

from __future__ import annotations

import os
import pty
import subprocess

SLOW = """
import time
import typer
from walg_core.hookspecs import hookimpl
from walg_core.pipeline.reader import IterReader

def pieces():
    for _ in range(30):
        time.sleep(0.1)
        yield b"x" * 100000

@hookimpl
def walg_register_commands(app):
    @app.command()
    def slow(ctx: typer.Context):
        ctx.obj.write_storage().put("object", IterReader(pieces()))
        typer.echo("done")
"""


def test_a_slow_transfer_is_shown_on_a_terminal_and_only_there(machine) -> None:
    machine.install("walg-slow", {"slow.py": SLOW}, {"walg.plugins": {"slow": "slow"}})
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        machine.command("slow"),
        env={**machine.environment, "TERM": "xterm", "COLUMNS": "80"},
        stdout=follower,
        stderr=follower,
        stdin=follower,
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert process.wait(10) == 0
    assert b"transferred: " in shown
    assert b" MiB, " in shown
    assert shown.endswith(b"\r\x1b[K") or b"\x1b[K" in shown[shown.rindex(b"transferred") :]
    assert b"done" in shown
    piped = machine.run("slow", TERM="xterm")
    assert (piped.stdout, piped.stderr) == ("done\n", "")
