"""SSH keeps the storage contract, on asyncssh's server and on OpenSSH's."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
from walg_core.builtin import walg_register_settings
from walg_core.settings.config import Config
from walg_core.testing import StorageConformance
from walg_storage_ssh.plugin import SETTINGS
from walg_storage_ssh.storage import SshStorage, create


def open_storage(settings: dict[str, str], **more: str) -> SshStorage:
    given = {**settings, **more}
    config = Config([*walg_register_settings(), *SETTINGS], flags={name: text for name, text in given.items() if text})
    return create(config, given["WALG_SSH_PREFIX"])


class TestEmulator(StorageConformance):
    @pytest.fixture
    def storage(self, server: dict[str, str]) -> Iterator[SshStorage]:
        made = open_storage(server, WALG_SSH_PREFIX=f"{server['WALG_SSH_PREFIX']}/{uuid.uuid4()}")
        yield made
        made.close()


@pytest.mark.services
class TestOpenSsh(StorageConformance):
    @pytest.fixture
    def storage(self, sshd: dict[str, str]) -> Iterator[SshStorage]:
        made = open_storage(sshd, WALG_SSH_PREFIX=f"{sshd['WALG_SSH_PREFIX']}/{uuid.uuid4()}")
        yield made
        made.close()


FIRST_USE = """
import sys, threading
from walg_core.pipeline.reader import IterReader
from walg_core.testing.contexts import make_context
settings = dict(word.split("=", 1) for word in sys.argv[1:])
context = make_context(settings)
storage = context.primary_storage()
def work(number):
    key = f"first/{number}"
    pieces = [bytes([number]) * 300_000 for _ in range(8)]
    storage.put(key, IterReader(pieces))
    assert storage.get(key) == b"".join(pieces)
    print("stored", flush=True)
threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
context.close()
"""


def test_the_first_use_by_many_threads_at_once(server: dict[str, str]) -> None:
    given = server | {"WALG_SSH_PREFIX": f"{server['WALG_SSH_PREFIX']}/{uuid.uuid4()}"}
    words = [f"{name}={text}" for name, text in given.items()]
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", FIRST_USE, *words], capture_output=True, text=True, timeout=120)
        assert (done.stdout.count("stored"), done.stderr) == (6, "")
