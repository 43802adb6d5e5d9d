"""The manual does not drift: every command and flag that its examples show exists in some engine or in core."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from walg_core.cli.app import build
from walg_core.cli.line import SWITCHES, flag_names
from walg_core.cli.session import Session

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("docs/*/*.md"), *ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("plugins/*/README.md")]
)
_FENCE = re.compile(r"^```(console|bash|sh|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SCRIPT = re.compile(r"^wal-g(-(?P<engine>[a-z]+))?$")


@cache
def trees() -> dict[str, Any]:
    """Engine → its command tree (with core's commands), and "" → core alone."""
    engines = Session(["--help"]).catalog.engines
    return {name: typer.main.get_command(build(Session([], engine=name))) for name in engines}


@cache
def global_flags() -> set[str]:
    session = Session(["--help"])
    settings = [*session.catalog.all_settings(), *(s for e in session.catalog.engines.values() for s in e.settings)]
    return {*flag_names(settings), *SWITCHES, "--help", "-h", "--version", "-v"}


def examples(page: Path) -> Iterator[tuple[int, list[str]]]:
    """`wal-g` command lines of a page's examples, with their line numbers."""
    text = page.read_text()
    for fence in _FENCE.finditer(text):
        prompted = "\n$ " in "\n" + fence[2]
        for match in re.finditer(r"^(\$ |# )?(.*(?:\\\n.*)*)$", fence[2], re.MULTILINE):
            if (prompted and match[1] != "$ ") or match[2].startswith("#"):
                continue
            number = text.count("\n", 0, fence.start(2) + match.start()) + 1
            for part in re.split(r"\s(?:\||&&|\|\||;)\s|<\(|\)$", match[2].replace("\\\n", " ")):
                try:
                    words = shlex.split(re.split(r"\s(?:>|>>|2>&1|<|&)(?:\s|$)", part)[0], comments=True)
                except ValueError:
                    continue
                while words and (re.fullmatch(r"[A-Z_0-9]+=.*", words[0]) or words[0] in ("sudo", "time", "exec")):
                    words.pop(0)
                if words and _SCRIPT.match(words[0].rpartition("/")[2]):
                    yield number, words


def problem(words: list[str]) -> str:
    """What is wrong with a command line, "" when some engine takes it."""
    script = _SCRIPT.match(words[0].rpartition("/")[2])
    assert script
    rest = words[1:]
    engines = dict(trees())
    if script["engine"]:
        engines = {script["engine"]: engines.get(script["engine"])}
    elif rest and rest[0] in engines:
        engines = {rest[0]: engines[rest[0]]}
        rest = rest[1:]
    reasons = [_problem(tree, rest) if tree else "no such engine" for tree in engines.values()]
    return "" if "" in reasons else min(reasons, key=len)


def _problem(tree: Any, words: list[str]) -> str:
    command, options = tree, set(global_flags())
    flags = []
    for word in words:
        if word.startswith("-") and len(word) > 1:
            flags.append(word.partition("=")[0])
            continue
        children = getattr(command, "commands", None)
        if children and word in children:
            command = children[word]
        elif children is not None and not flags:
            return f"no command {word!r}"
        options |= {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    unknown = [flag for flag in flags if flag not in options and not re.fullmatch(r"-\d+", flag)]
    return f"no flag {unknown[0]}" if unknown else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples_exist(page: Path) -> None:
    wrong = [
        f"line {number}: {shlex.join(words)}: {why}" for number, words in examples(page) if (why := problem(words))
    ]
    assert wrong == []


def test_the_reader_of_examples_reads(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ X=1 wal-g config show --origin | grep x\nwal-g nonsense\n$ wal-g plugins --jsn\n```\n"
        "```bash\nsource <(wal-g completion bash)\nwal-g nonsense  # note\n```\n"
    )
    found = {" ".join(words): problem(words) for _, words in examples(page)}
    assert found == {
        "wal-g config show --origin": "",
        "wal-g plugins --jsn": "no flag --jsn",
        "wal-g completion bash": "",
        "wal-g nonsense": "no command 'nonsense'",
    }
