"""A download over a connection that breaks again and again goes on where it was (figure P3)."""

from __future__ import annotations

import contextlib
import hashlib
import random

import pytest
from walg_core.pipeline.reader import CHUNK, IterReader
from walg_core.testing import FaultProxy
from walg_core.testing.contexts import make_context

MIB = 1 << 20
SIZE = 320 * MIB


def piece(number: int) -> bytes:
    return random.Random(number).randbytes(MIB)


@pytest.mark.slow
def test_a_connection_that_breaks_every_50_megabytes(open_server) -> None:
    settings = open_server.settings()
    with contextlib.closing(make_context(settings)) as context:
        context.primary_storage().put("large", IterReader(piece(number) for number in range(SIZE // MIB)))
    port = int(open_server.endpoint.rpartition(":")[2])
    with FaultProxy("127.0.0.1", port) as proxy:
        proxy.direction, proxy.reset_after = "down", 50_000_000
        settings["AWS_ENDPOINT"] = f"http://127.0.0.1:{proxy.port}"
        with contextlib.closing(make_context(settings)) as context:
            found = hashlib.sha256()
            reader = context.primary_storage().open("large")
            while part := reader.read(CHUNK):
                found.update(part)
            reader.close()
        expected = hashlib.sha256()
        for number in range(SIZE // MIB):
            expected.update(piece(number))
        assert found.digest() == expected.digest()
        assert proxy.connections > SIZE // 50_000_000
        again = proxy.passed["down"] - SIZE
        # Some 3 %: what was on its way, and in the kernel's buffers, when the connection broke. Beginning anew would be
        # several hundred.
        assert again < SIZE * 0.15, f"{again / SIZE:.1%} came twice"
