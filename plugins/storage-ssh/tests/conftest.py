"""An SSH server in this process, and a real one."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from walg_storage_ssh.testing import emulator


@pytest.fixture(scope="session")
def server() -> Iterator[dict[str, str]]:
    with emulator() as settings:
        yield settings


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """OpenSSH's server, as root."""
    program = shutil.which("sshd") or "/usr/sbin/sshd"
    if not os.path.exists(program) or os.getuid() != 0:
        pytest.skip("needs OpenSSH's sshd, and to be root")
    scratch = tmp_path_factory.mktemp("sshd")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(scratch / name)], check=True)
    (scratch / "auth").write_bytes((scratch / "user.pub").read_bytes())
    (scratch / "auth").chmod(0o600)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (scratch / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {scratch}/host\nAuthorizedKeysFile {scratch}/auth\n"
        f"PidFile {scratch}/pid\nUsePAM no\nPasswordAuthentication no\nStrictModes no\n"
        "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
    )
    log = (scratch / "log").open("wb")
    process = subprocess.Popen([program, "-D", "-e", "-f", str(scratch / "config")], stderr=log)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        key = (scratch / "host.pub").read_text()
        (scratch / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}")
        (scratch / "archive").mkdir()
        yield {
            "WALG_SSH_PREFIX": f"ssh://root@127.0.0.1{scratch}/archive",
            "SSH_PORT": str(port),
            "SSH_PRIVATE_KEY_PATH": str(scratch / "user"),
            "SSH_KNOWN_HOSTS": str(scratch / "known_hosts"),
        }
    finally:
        process.terminate()
        process.wait()
        log.close()
