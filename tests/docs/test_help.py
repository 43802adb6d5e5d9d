"""Every command explains itself: an example that parses, and a summary that fits on the list of commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from walg_core.cli.app import build
from walg_core.cli.session import Session

ENGINES = ("pg", "mysql", "redis", "etcd", "fdb")
SUMMARY = 55
"""Columns that typer leaves for a summary on a terminal of 80."""


def leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command of the tree that has no commands below, with the words that call it."""
    below = getattr(command, "commands", None)
    if not below:
        yield words, command
        return
    for name, each in below.items():
        if not each.hidden:
            yield from leaves(each, (*words, name))


def every() -> Iterator[tuple[str, tuple[str, ...], Any, Any]]:
    """Engine, words, the command and the tree it is in; what several engines share comes once for each."""
    engines = Session(["--help"]).catalog.engines
    for engine in engines:
        root = typer.main.get_command(build(Session([], engine=engine)))
        for words, command in leaves(root, ()):
            yield engine, words, command, root


ALL = list(every())
IDS = [f"{engine}-{'-'.join(words)}" for engine, words, _, _ in ALL]


def test_every_engine_is_here() -> None:
    assert {engine for engine, *_ in ALL} >= set(ENGINES)
    assert len(ALL) > 150


def example_lines(text: str) -> Iterator[list[str]]:
    """The command lines after `Example`, without the program, the configuration file and redirections."""
    for line in text.partition("xample")[2].splitlines():
        for match in re.finditer(r"(?:^|[\s'(])wal-g ((?:[^'|>)]|'[^']*'|\d>)+)", line):
            words = shlex.split(re.sub(r"\s\d$", "", match[1].strip()) if match[1].count("'") % 2 == 0 else match[1])
            if words[:1] == ["--config"]:
                del words[:2]
            yield words


@pytest.mark.parametrize(("engine", "words", "command", "root"), ALL, ids=IDS)
def test_the_help_has_an_example_that_parses(engine: str, words: tuple[str, ...], command: Any, root: Any) -> None:
    del root
    found = list(example_lines(command.help or ""))
    assert found, f"wal-g {' '.join(words)} --help shows no example"
    for line in found:
        mine = line[1:] if line[:1] == [engine] else line
        assert tuple(mine[: len(words)]) == words, f"the example of {' '.join(words)} calls {line}"
        command.make_context(words[-1], mine[len(words) :])


@pytest.mark.parametrize(("engine", "words", "command", "root"), ALL, ids=IDS)
def test_the_summary_fits(engine: str, words: tuple[str, ...], command: Any, root: Any) -> None:
    del engine, root
    summary = command.get_short_help_str(SUMMARY)
    assert summary
    assert not summary.endswith("..."), f"{' '.join(words)}: {command.help}"
