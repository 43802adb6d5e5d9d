"""Throughput of the ciphers on one core, in MB/s, with gpg and age beside them where they are installed.

python benchmarks/crypto.py [MEGABYTES]
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from walg_core.compression.framing import Stage
from walg_core.crypto import dare
from walg_core.pipeline.reader import IterReader, Reader

MEGABYTE = 1 << 20
GOAL = 400
ROUNDS = 3
Step = Callable[[Reader], Reader]


def drain(reader: Reader) -> None:
    while reader.read(MEGABYTE):
        pass


def best(step: Callable[[], None], megabytes: int) -> float:
    """MB/s of the fastest of a few rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return megabytes / min(times)


def pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while piece := source.read(MEGABYTE):
            yield piece


def run(words: list[str]) -> None:
    subprocess.run(words, check=True, capture_output=True)


def gpg(home: Path, *words: str) -> bytes:
    command = [
        "gpg",
        "--homedir",
        str(home),
        "--batch",
        "--yes",
        "--trust-model",
        "always",
        "--pinentry-mode",
        "loopback",
    ]
    return subprocess.run([*command, "--passphrase", "", *words], check=True, capture_output=True).stdout


def ciphers(home: Path | None) -> Iterator[tuple[str, Step, Step]]:
    key = os.urandom(32)
    for name, number in (("DARE AES-256-GCM", dare.AES_256_GCM), ("DARE ChaCha20", dare.CHACHA20_POLY1305)):
        yield (
            name,
            lambda source, number=number: Stage(dare.encrypt(source, key, number), source),
            lambda source: Stage(dare.decrypt(source, key), source),
        )
    try:
        from walg_crypto_libsodium.crypter import Libsodium

        sodium = Libsodium(key)
        yield "libsodium", sodium.encrypt, sodium.decrypt
    except ImportError:
        pass
    if home:
        from walg_crypto_openpgp.crypter import OpenPgp

        gpg(home, "--quick-gen-key", "bench@example.org", "future-default", "default", "never")
        ring = gpg(home, "-a", "--export-secret-keys")
        crypter = OpenPgp(lambda: ring, lambda: ring, "the ring")
        yield "OpenPGP AES", crypter.encrypt, crypter.decrypt


def rivals(home: Path | None, folder: Path, plain: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    if home:
        base = ["gpg", "--homedir", str(home), "--batch", "--yes", "--trust-model", "always", "-z", "0"]
        sealed = str(folder / "sealed.gpg")
        yield (
            "gpg",
            [*base, "-r", "bench@example.org", "-o", sealed, "-e", str(plain)],
            [*base, "-o", "/dev/null", "-d", sealed],
        )
    if shutil.which("age"):
        keys = folder / "age.key"
        subprocess.run(["age-keygen", "-o", str(keys)], check=True, capture_output=True)
        public = subprocess.run(
            ["age-keygen", "-y", str(keys)], check=True, capture_output=True, text=True
        ).stdout.strip()
        sealed = str(folder / "sealed.age")
        yield (
            "age",
            ["age", "-r", public, "-o", sealed, str(plain)],
            ["age", "-d", "-i", str(keys), "-o", "/dev/null", sealed],
        )


def main() -> int:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    folder = Path(tempfile.mkdtemp(prefix="walg-bench-", dir="/tmp"))
    home = None
    if shutil.which("gpg"):
        home = folder / "gnupg"
        home.mkdir(mode=0o700)
    rows: list[tuple[str, float, float]] = []
    try:
        plain, sealed = folder / "plain", folder / "sealed"
        block = os.urandom(MEGABYTE)
        plain.write_bytes(block * megabytes)
        for name, encrypt, decrypt in ciphers(home):
            writing = best(lambda step=encrypt: drain(step(IterReader(pieces(plain)))), megabytes)
            with sealed.open("wb") as out:
                reader = encrypt(IterReader(pieces(plain)))
                while piece := reader.read(MEGABYTE):
                    out.write(piece)
            reading = best(lambda step=decrypt: drain(step(IterReader(pieces(sealed)))), megabytes)
            rows.append((name, writing, reading))
        for name, write, read in rivals(home, folder, plain):
            writing = best(partial(run, write), megabytes)
            reading = best(partial(run, read), megabytes)
            rows.append((f"({name})", writing, reading))
    finally:
        if home:
            subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'cipher':<20} {'encrypt':>8} {'decrypt':>8}  MB/s on one core, {megabytes} MB; goal {GOAL}")
    for name, writing, reading in rows:
        print(f"{name:<20} {writing:>8.0f} {reading:>8.0f}")
    print(json.dumps({name: {"encrypt": round(w), "decrypt": round(r)} for name, w, r in rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
