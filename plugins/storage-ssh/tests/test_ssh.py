"""SSH keeps the storage contract, on asyncssh's server and on OpenSSH's."""

from __future__ import annotations

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
