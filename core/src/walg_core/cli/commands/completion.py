"""`wal-g completion SHELL`: the script that teaches a shell our commands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from walg_core.cli.app import complete_variable


class Shell(StrEnum):
    """The shells that a script can be made for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    ctx: typer.Context, shell: Annotated[Shell, typer.Argument(help="the shell to complete in", show_choices=True)]
) -> None:
    """Print the completion script of a shell.

    \b
    Examples:
      source <(wal-g completion bash)
      wal-g completion zsh > "${fpath[1]}/_wal-g"
      wal-g completion fish > ~/.config/fish/completions/wal-g.fish
    """
    from typer._completion_shared import get_completion_script

    prog = ctx.find_root().info_name or "wal-g"
    typer.echo(get_completion_script(prog_name=prog, complete_var=complete_variable(prog), shell=shell.value))
