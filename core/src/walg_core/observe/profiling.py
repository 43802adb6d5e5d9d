"""`PROFILE_SAMPLING_RATIO`, `PROFILE_MODE`, `PROFILE_PATH` (spec/config.md 14): a profile of some of the runs."""

from __future__ import annotations

import os
import random
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

from walg_core.io.atomic import write_file
from walg_core.observe import log
from walg_core.observe.sampler import Sampler
from walg_core.settings.config import Config

_FRAMES = 12
_TOP = 100


@contextmanager
def profiled(config: Config) -> Iterator[None]:
    """Profile the block with the configured chance: `cpu.folded` (also for modes that only Go has), or `mem.txt`."""
    ratio = config.get("PROFILE_SAMPLING_RATIO") or 0.0
    if random.random() >= ratio:
        yield
        return
    directory = config.get("PROFILE_PATH") or tempfile.mkdtemp(prefix="profile")
    mode = config.get("PROFILE_MODE")
    if mode == "mem":
        tracemalloc.start(_FRAMES)
        try:
            yield
        finally:
            snapshot = tracemalloc.take_snapshot()
            tracemalloc.stop()
            text = "\n".join(str(row) for row in snapshot.statistics("lineno")[:_TOP]) + "\n"
            _write(os.path.join(directory, "mem.txt"), text)
        return
    sampler = Sampler()
    sampler.start()
    try:
        yield
    finally:
        _write(os.path.join(directory, "cpu.folded"), sampler.stop())


def _write(path: str, text: str) -> None:
    try:
        write_file(path, text.encode(), mode=0o600)
        log.info(f"profile written to {path}")
    except OSError as error:
        log.warning(f"profile could not be written to {path}: {error.strerror}")
