"""A real Swift in one process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from walg_storage_swift.testing import Emulator, emulator


@pytest.fixture(scope="session")
def server() -> Iterator[Emulator]:
    pytest.importorskip("swift", reason="the package swift is not installed")
    with emulator() as running:
        yield running
