"""The few statements that replicas and `mysqlbinlog` ask a source before they dump (spec/mysql.md 8)."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from walg_mysql.binlogserver.packets import Wire

_SET = re.compile(r"@(\w+)\s*:?=\s*('(?:[^'\\]|\\.|'')*'|\"[^\"]*\"|[^,]+)")
_SELECT = re.compile(r"select\s+(.+)", re.DOTALL | re.IGNORECASE)
_SHOW = re.compile(r"show\s+(?:global\s+|session\s+)?variables\s+like\s+'([^']*)'", re.IGNORECASE)


@dataclass(slots=True)
class Session:
    """One client's variables. `globals` are the server's, with names in lower case; `own` the client's, likewise."""

    globals: dict[str, str]
    own: dict[str, str] = field(default_factory=dict)

    def answer(self, wire: Wire, query: str) -> None:
        """Answer one statement; what is not understood is accepted, as sources of old did with newer settings."""
        query = query.strip().rstrip(";").strip()
        if re.match(r"set\b", query, re.IGNORECASE):
            for name, value in _SET.findall(query):
                self.own[name.lower()] = self.value(value.strip())
            wire.ok()
            return
        shown = _SHOW.fullmatch(query)
        if shown:
            name = shown[1].lower()
            wire.row(["Variable_name", "Value"], [name, self.globals.get(name, "")])
            return
        selected = _SELECT.fullmatch(query)
        if selected and (values := self._select(selected[1])):
            wire.row([name for name, _ in values], [value for _, value in values])
            return
        wire.ok()

    def _select(self, expressions: str) -> list[tuple[str, str]]:
        words = [word.strip() for word in expressions.split(",")]
        known = re.compile(r"@@?[\w.]+|unix_timestamp\(\)|version\(\)", re.IGNORECASE)
        if not all(known.fullmatch(word) for word in words):
            return []
        return [(word, self.value(word)) for word in words]

    def value(self, word: str) -> str:
        """A literal, a variable of either kind, or one of the two functions."""
        low = word.lower()
        if low.startswith("@@"):
            return self.globals.get(low[2:].removeprefix("global.").removeprefix("session."), "")
        if low.startswith("@"):
            return self.own.get(low[1:], "")
        if low == "unix_timestamp()":
            return str(int(time.time()))
        if low == "version()":
            return self.globals["version"]
        return word[1:-1] if word[:1] in "'\"" and word[-1:] == word[:1] else word
