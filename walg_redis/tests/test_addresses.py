"""Where a server may be: behind TLS, behind a Sentinel, in a cluster. Only Debian's Redis has TLS."""

from __future__ import annotations

import datetime
import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

pytestmark = pytest.mark.services


@pytest.fixture
def debian(field: Any) -> Any:
    if field.program != "/usr/bin/redis-server":
        pytest.skip("only Debian's redis-server is built with TLS and Sentinel")
    return field


def certificates(path: Path) -> dict[str, str]:
    """A certificate for localhost and its key, which is its own authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (path / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {"cert": str(path / "cert.pem"), "key": str(path / "key.pem")}


def tls_port(client: Any) -> int:
    """Let the server listen with TLS as well, on a port that it finds free."""
    for _ in range(20):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = int(taken.getsockname()[1])
        try:
            client.config_set("tls-port", port)
        except redis.ResponseError:
            continue
        return port
    raise AssertionError("no port is free")


def test_tls(debian: Any) -> None:
    files = certificates(debian.path)
    options = ("--tls-port", "0", "--tls-cert-file", files["cert"], "--tls-key-file", files["key"],
               "--tls-ca-cert-file", files["cert"])  # fmt: skip
    source = debian.server("source", *options)
    debian.aim(source)
    source.client.set("secret", "value")
    port = tls_port(source.client)
    where = {"WALG_REDIS_HOST": "localhost", "WALG_REDIS_PORT": str(port), "WALG_REDIS_TLS": "true"}
    mine = {
        "WALG_REDIS_TLS_CA": files["cert"],
        "WALG_REDIS_TLS_CERT": files["cert"],
        "WALG_REDIS_TLS_KEY": files["key"],
    }
    debian.run("backup-push", **where, **mine)
    target = debian.server("target")
    target.stop()
    debian.run("backup-fetch", "LATEST", WALG_REDIS_DATA_PATH=str(target.data))
    target.start()
    assert target.client.get("secret") == "value"
    stranger = debian.run("backup-push", status=1, **where)[1]
    assert "certificate" in stranger.lower()
    wrong = debian.run("backup-push", status=1, **where, WALG_REDIS_TLS_CA="/nonexistent.pem")[1]
    assert "WALG_REDIS_TLS_CA" in wrong
    assert len(debian.names()) == 1


def test_sentinel_tells_the_server(debian: Any) -> None:
    source = debian.server("source")
    debian.aim(source)
    source.client.set("kept", "1")
    configuration = debian.path / "sentinel.conf"
    configuration.write_text(f"sentinel monitor shard1 127.0.0.1 {source.port} 1\n")
    watcher = debian.server("sentinel-data")
    watcher.stop()
    process = subprocess.Popen(
        [debian.program, str(configuration), "--sentinel", "--port", str(watcher.port), "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        settings = {
            "WALG_REDIS_SENTINELS": f"127.0.0.1:{watcher.port}", "WALG_REDIS_SENTINEL_MASTER": "shard1",
            "WALG_REDIS_PORT": "1",
        }  # fmt: skip
        until = time.monotonic() + 180
        while debian.popen("backup-push", **settings).wait(60) and time.monotonic() < until:
            time.sleep(0.3)
        assert len(debian.names()) == 1
        error = debian.run("backup-push", status=1, **{**settings, "WALG_REDIS_SENTINEL_MASTER": "other"})[1]
        assert "WALG_REDIS_SENTINEL_MASTER" in error
    finally:
        process.kill()
        process.wait()


def test_a_cluster_node_by_its_own_address(field: Any) -> None:
    """A backup is of one node: what another node would redirect is read where it lies."""
    options = ("--cluster-enabled", "yes", "--cluster-port", "FREE")
    node = field.server("node", *options)
    field.aim(node)
    node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    until = time.monotonic() + 180
    while node.client.cluster("info")["cluster_state"] != "ok" and time.monotonic() < until:
        time.sleep(0.1)
    for number in range(100):
        node.client.set(f"key{number}", number)
    field.run("backup-push")
    node.stop()
    target = field.server("target", *options)
    target.stop()
    field.run("backup-fetch", "LATEST", WALG_REDIS_DATA_PATH=str(target.data))
    target.start()
    assert target.client.dbsize() == 100


def wait_until(question: Callable[[], bool]) -> None:
    until = time.monotonic() + 180
    while not question():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize("field", ["valkey", "redis"], indirect=True)
def test_a_cluster_of_three_masters(field: Any) -> None:
    """Every shard's backup holds its keys and the slots of all; restored, the shards together hold every key."""
    options = ("--cluster-enabled", "yes", "--cluster-port", "FREE", "--cluster-node-timeout", "60000")
    ranges = ((0, 5460), (5461, 10922), (10923, 16383))
    nodes = [field.server(f"node{number}", *options) for number in range(3)]
    for node, (first, last) in zip(nodes, ranges, strict=True):
        node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
    for node in nodes[1:]:
        bus = node.client.config_get("cluster-port")["cluster-port"]
        nodes[0].client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
    wait_until(lambda: all(node.client.cluster("info")["cluster_state"] == "ok" for node in nodes))
    wait_until(lambda: all(node.client.cluster("info")["cluster_slots_ok"] == "16384" for node in nodes))
    whole = redis.RedisCluster(host="127.0.0.1", port=nodes[0].port, decode_responses=True)
    for number in range(300):
        whole.set(f"key{number}", number)
    whole.close()
    for number, node in enumerate(nodes):
        node.client.config_set("cluster-announce-hostname", f"host{number}.example")

    def all_names_saved(node: Any) -> bool:
        # Redis 7.0 does not write its file for a new name alone.
        node.client.execute_command("CLUSTER", "SAVECONFIG")
        return (node.data / "nodes.conf").read_text().count(".example") == 3

    wait_until(lambda: all(map(all_names_saved, nodes)))
    names = {f"host{number}.example": f"shard{number}" for number in range(3)}
    held = []
    for number, node in enumerate(nodes):
        field.aim(node)
        cluster = {"WALG_REDIS_CLUSTER_CONF_PATH": str(node.data / "nodes.conf"),
                   "WALG_REDIS_FQDN_TO_ID_MAP": json.dumps(names), "WALG_STORAGE_PREFIX": f"shard{number}"}  # fmt: skip
        field.run("backup-push", "--sharded", **cluster)
        told = json.loads(field.run("backup-info", "LATEST", "--tag", "Slots", **cluster)[0])
        assert told == {f"shard{at}": [[str(first), str(last)]] for at, (first, last) in enumerate(ranges)}
        target = field.path / f"target{number}"
        field.run("backup-fetch", "LATEST", **cluster | {"WALG_REDIS_DATA_PATH": str(target)})
        restored = field.server(f"target{number}")
        held += restored.client.keys("*")
        assert restored.client.dbsize() == node.client.dbsize() > 0
        restored.stop()
    assert sorted(held) == sorted(f"key{number}" for number in range(300))
