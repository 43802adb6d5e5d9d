"""An OSS endpoint that checks signatures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from walg_storage_oss.testing import Emulator, emulator


@pytest.fixture(scope="session")
def server() -> Iterator[Emulator]:
    with emulator() as running:
        yield running
