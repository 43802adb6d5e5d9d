"""The reference of all settings, made from their declarations: for the manual."""

from __future__ import annotations

from collections.abc import Iterable

from walg_core.plugins import installed
from walg_core.settings.declare import KINDS, Setting


def reference() -> str:
    """A Markdown page: core's settings, then those of every storage, compressor, crypter and engine installed."""
    catalog = installed()
    parts = [
        "# Settings\n\nMade from the declarations of all distributions. (secret) values may also come from `NAME_FILE`"
    ]
    parts[0] += " and `NAME_COMMAND`, see [](configuration.md).\n"
    parts.append(_section("Core", catalog.settings))
    for kind, members in (
        ("Storage", catalog.storages),
        ("Compression", catalog.compressors),
        ("Encryption", catalog.crypters),
        ("Engine", catalog.engines),
    ):
        for name, declaration in sorted(members.items()):
            if declaration.settings:
                parts.append(_section(f"{kind}: {getattr(declaration, 'title', name)}", declaration.settings))
    return "\n".join(parts)


def _section(title: str, settings: Iterable[Setting]) -> str:
    rows = [f"## {title}\n", "| setting | default | value | meaning |", "|---|---|---|---|"]
    for setting in settings:
        names = "<br>".join(f"`{name}`" for name in setting.names)
        value = " ".join(f"`{choice}`" for choice in setting.choices) or KINDS[setting.kind]
        meaning = (
            setting.help + (f" [{setting.unit}]" if setting.unit else "") + (" (secret)" if setting.secret else "")
        )
        default = f"`{setting.default}`" if setting.default else ""
        rows.append(" | ".join(["", names, default, value, meaning.replace("|", "\\|"), ""]).strip())
    return "\n".join(rows) + "\n"
