"""Mutated ciphertexts of every chunk format: each ends in IntegrityError or in the identical plaintext."""

from __future__ import annotations

import base64
import random
import time

import pytest
from walg_core.crypto import dare
from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import BytesReader, read_all

KEY = bytes(range(32))
ROUNDS = 34_000


def plaintext(size: int) -> bytes:
    return bytes((7 * i + i // 256) % 256 for i in range(size))


def mutated(generator: random.Random, stored: bytes, border: int) -> bytes:
    """Between one and three changes; many of them near the beginning, or of whole chunks of `border` bytes."""
    out = bytearray(stored)
    for _ in range(generator.randint(1, 3)):
        if not out:
            break
        at = generator.randrange(min(len(out), 300)) if generator.random() < 0.5 else generator.randrange(len(out))
        kind = generator.randrange(7)
        if kind == 0:
            out[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            out[at] = generator.randrange(256)
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            out[at:at] = generator.randbytes(generator.randint(1, 40))
        elif kind == 4:
            del out[at : at + generator.randint(1, 40)]
        elif kind == 5:
            start = generator.randrange(len(out) // border + 1) * border
            out[at:at] = out[start : start + border]
        else:
            start = generator.randrange(len(out) // border + 1) * border
            del out[start : start + border]
    return bytes(out)


def libsodium():
    crypter = pytest.importorskip("walg_crypto_libsodium.crypter").Libsodium(KEY)
    return crypter.encrypt, crypter.decrypt, 8209


def openpgp():
    module = pytest.importorskip("walg_crypto_openpgp.crypter")
    pysequoia = pytest.importorskip("pysequoia", reason="pysequoia is not installed")
    body = base64.encodebytes(pysequoia.Tsk.generate("fuzz <fuzz@example.org>").__bytes__())
    ring = b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n" + body + b"-----END PGP PRIVATE KEY BLOCK-----\n"
    crypter = module.OpenPgp(lambda: ring, lambda: ring, "the ring")
    return crypter.encrypt, crypter.decrypt, 8 << 10


def chunks():
    from walg_core.compression.framing import Stage

    return (
        lambda source: Stage(dare.encrypt(source, KEY), source),
        lambda source: Stage(dare.decrypt(source, KEY), source),
        65568,
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", [libsodium, openpgp, chunks])
def test_one_hundred_thousand_mutations(make) -> None:
    encrypt, decrypt, border = make()
    generator = random.Random(20261124)
    sizes = [1, 5, 700, 9000, 70_000, 140_000] if make is chunks else [0, 5, 700, 9000, 17_000]
    stored = {size: read_all(encrypt(BytesReader(plaintext(size)))) for size in sizes}
    refused = tried = 0
    slowest = 0.0
    for number in range(ROUNDS):
        # The long ones cost most and differ least from each other.
        size = sizes[min(generator.randrange(len(sizes)), generator.randrange(len(sizes)))]
        changed = mutated(generator, stored[size], border)
        if not changed and make is chunks:
            continue  # no package at all is the format's empty stream: its users notice that (core/tests/crypto)
        tried += 1
        start = time.process_time()
        try:
            assert read_all(decrypt(BytesReader(changed))) == plaintext(size), f"round {number}"
        except IntegrityError:
            refused += 1
        slowest = max(slowest, time.process_time() - start)
    assert refused > tried * 0.9 > ROUNDS * 0.6
    assert slowest < 1
