"""Lists as text: the plain columns that scripts cut, and the box for people (spec/stream-backups.md 8)."""

from __future__ import annotations

from collections.abc import Sequence


def plain(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A header line and rows; columns padded to the widest cell plus one, the last unpadded. Ends in a newline."""
    lines = [list(headers), *map(list, rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(headers))]
    return "".join(
        " ".join([*(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False)), line[-1]]) + "\n"
        for line in lines
    )


def box(headers: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """A grid of `+`, `-` and `|`; header upper-cased; columns in `right` are right-aligned. Ends in a newline."""
    head = [header.upper() for header in headers]
    lines = [head, *map(list, rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+\n"

    def draw(line: Sequence[str]) -> str:
        cells = [
            f" {cell.rjust(width) if at in right else cell.ljust(width)} "
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "|" + "|".join(cells) + "|\n"

    return rule + draw(head) + rule + "".join(map(draw, rows)) + rule


def pretty(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """`box` with a first column `#` that counts from 0."""
    numbered = [[str(number), *row] for number, row in enumerate(rows)]
    return box(["#", *headers], numbered, frozenset((0,)))
