"""Data keys kept for a bounded time, and objects that were cut before their first package."""

from __future__ import annotations

import hashlib
import threading
import time

import pytest
from walg_core.compression.framing import NonEmpty
from walg_core.compression.zstd import compressor
from walg_core.crypto.datakeys import DataKeyCrypter, DataKeys
from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import BytesReader, Reader, read_all, read_exactly
from walg_core.settings.config import Config
from walg_core.settings.declare import Setting

CONFIG = Config([Setting("WALG_ZSTD_LEVEL", "level")])


class Service:
    """Wraps a key as its own number; counts its calls."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.calls: list[str] = []

    def generate(self) -> tuple[bytes, bytes]:
        self.calls.append("generate")
        time.sleep(0.01)
        self.keys.append(hashlib.sha256(b"%d" % len(self.keys)).digest())
        return self.keys[-1], (len(self.keys) - 1).to_bytes(4, "big")

    def unwrap(self, wrapped: bytes) -> bytes:
        self.calls.append("unwrap")
        return self.keys[int.from_bytes(wrapped, "big")]


class FourBytes:
    def pack(self, wrapped: bytes) -> bytes:
        return wrapped

    def unpack(self, source: Reader) -> bytes:
        return read_exactly(source, 4)


def test_a_key_serves_for_its_lifetime() -> None:
    now, service = [0.0], Service()
    keys = DataKeys(service, 60, clock=lambda: now[0])
    first = keys.for_writing()
    now[0] = 59
    assert keys.for_writing() == first
    now[0] = 60
    assert keys.for_writing() != first
    for moment in (60, 119, 121):
        now[0] = moment
        assert keys.for_reading(first[1]) == first[0]
    assert service.calls == ["generate", "generate", "unwrap", "unwrap"]


def test_many_threads_make_one_call() -> None:
    service = Service()
    keys = DataKeys(service, 60)
    threads = [threading.Thread(target=keys.for_writing) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.calls == ["generate"]


def test_keys_for_reading_are_few() -> None:
    service = Service()
    keys = DataKeys(service, 60)
    for _ in range(100):
        keys.for_reading(service.generate()[1])
    assert len(keys._reading) <= 64


def test_a_key_of_another_size_is_refused() -> None:
    class Wrong(Service):
        def unwrap(self, wrapped: bytes) -> bytes:
            return b"short"

    with pytest.raises(IntegrityError, match="5 bytes instead of 32"):
        DataKeys(Wrong(), 60).for_reading(b"x")


def test_an_object_cut_after_its_header_is_not_an_empty_file() -> None:
    crypter = DataKeyCrypter("test", DataKeys(Service(), 60), FourBytes())
    stored = read_all(crypter.encrypt(compressor.compress(BytesReader(b""), CONFIG)))
    assert read_all(compressor.decompress(NonEmpty(crypter.decrypt(BytesReader(stored))))) == b""
    with pytest.raises(IntegrityError, match="not even an empty compressed stream"):
        read_all(compressor.decompress(NonEmpty(crypter.decrypt(BytesReader(stored[:4])))))
