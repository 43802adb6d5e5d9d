"""Make the skeleton of a third-party storage plugin: `python plugins/_template/generate.py NAME DIRECTORY`.

NAME is the storage's short name (`mystore`): the distribution becomes walg-storage-mystore, its prefix setting
WALG_MYSTORE_PREFIX. The result passes its own tests at once; replace its SQLite queries by your backend's calls.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

SKELETON = Path(__file__).parent / "skeleton"


def generate(name: str, directory: Path) -> list[Path]:
    """Write the skeleton into `directory`, which must not exist; returns the files."""
    if not re.fullmatch(r"[a-z][a-z0-9]*", name):
        raise SystemExit(f"{name!r}: a storage's name is lower-case letters and digits")
    if directory.exists():
        raise SystemExit(f"{directory} exists already")
    values = {
        "name": name,
        "upper": name.upper(),
        "title": name.capitalize(),
        "class_name": f"{name.capitalize()}Storage",
        "prefix": f"WALG_{name.upper()}_PREFIX",
        "package": f"walg_storage_{name}",
        "distribution": f"walg-storage-{name}",
    }
    made = []
    for template in sorted(SKELETON.rglob("*.in")):
        relative = template.relative_to(SKELETON).with_suffix("").as_posix().replace("package", values["package"])
        target = directory / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(template.read_text().format(**values))
        made.append(target)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the skeleton of a storage plugin for wal-g.")
    parser.add_argument("name", help="short name of the storage, e.g. mystore")
    parser.add_argument("directory", type=Path, help="where to write it; must not exist")
    arguments = parser.parse_args()
    for path in generate(arguments.name, arguments.directory):
        print(path)


if __name__ == "__main__":
    main()
