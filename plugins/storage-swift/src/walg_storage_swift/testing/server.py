"""A whole Swift in one process: proxy, account, container and object server, tempauth, Keystone v2.0 and v3 in front.

`python -m walg_storage_swift.testing.server DIRECTORY`; needs the package `swift` and a file system with user
attributes. The port is written to DIRECTORY/port. Account `test`, user `test:tester`, key `testing`.

Below `/_control/` tests make it misbehave: `forget` forgets all tokens, `fail/STATUS/TIMES` answers the next TIMES
requests for objects and containers with STATUS, `log` tells the requests since it was asked last.
"""

import io
import json
import logging
import os
import pwd
import sys
from collections.abc import Callable
from typing import Any

import eventlet  # type: ignore[import-untyped]

eventlet.monkey_patch()

import swift.common.utils as swift_utils  # type: ignore[import-untyped]  # noqa: E402
from eventlet import wsgi  # noqa: E402
from swift.common.ring import RingBuilder  # type: ignore[import-untyped]  # noqa: E402
from swift.common.wsgi import SwiftHttpProtocol, loadapp  # type: ignore[import-untyped]  # noqa: E402

Application = Callable[[dict[str, Any], Callable[..., Any]], Any]

PIPELINE = "catch_errors healthcheck proxy-logging cache listing_formats bulk s3api copy tempauth slo dlo proxy-server"
FOREVER = "2099-01-01T00:00:00.000000Z"


class Memcache:
    """The little of memcached that tempauth needs."""

    def __init__(self) -> None:
        self.values: dict[bytes, tuple[bytes, bytes]] = {}

    def serve(self, connection: Any, _address: Any) -> None:
        stream = connection.makefile("rwb")
        while line := stream.readline().split():
            body = b""
            if line[0] in (b"set", b"add"):
                body = stream.read(int(line[4]) + 2)[:-2]
            answer = self.answer(line, body)
            if line[-1] != b"noreply":
                stream.write(answer)
            stream.flush()

    def answer(self, line: list[bytes], body: bytes) -> bytes:
        verb, key = line[0], line[1]
        if verb == b"get":
            found = [(k, *self.values[k]) for k in line[1:] if k in self.values]
            return b"".join(b"VALUE %s %s %d\r\n%s\r\n" % (k, f, len(v), v) for k, f, v in found) + b"END\r\n"
        if verb == b"set" or (verb == b"add" and key not in self.values):
            self.values[key] = (line[2], body)
            return b"STORED\r\n"
        if verb == b"delete":
            return b"DELETED\r\n" if self.values.pop(key, None) else b"NOT_FOUND\r\n"
        return b"NOT_STORED\r\n" if verb == b"add" else b"NOT_FOUND\r\n"


class Controls:
    """What tests ask of the server, in front of everything."""

    def __init__(self, inner: Application, memcache: Memcache) -> None:
        self.inner = inner
        self.memcache = memcache
        self.fail: list[str] = []
        self.seen: list[str] = []

    def __call__(self, environment: dict[str, Any], start: Callable[..., Any]) -> Any:
        path = environment["PATH_INFO"]
        if path.startswith("/_control/"):
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self.control(path.split("/")[2:])).encode()]
        query = environment.get("QUERY_STRING")
        self.seen.append(f"{environment['REQUEST_METHOD']} {path}" + (f"?{query}" if query else ""))
        if self.fail and path.startswith("/v1/AUTH_"):
            start(self.fail.pop(), [("Content-Length", "0"), ("Connection", "close")])
            return [b""]
        return self.inner(environment, start)

    def control(self, words: list[str]) -> list[str]:
        if words[0] == "forget":
            self.memcache.values.clear()
        elif words[0] == "fail":
            self.fail = [f"{words[1]} Told To"] * int(words[2])
        seen, self.seen = self.seen, []
        return seen


class Keystone:
    """Identity v2.0 and v3 in front of tempauth: project = account, same users and keys.

    A v3 application credential has the user's name as its id and the user's key as its secret.
    """

    def __init__(self, inner: Application) -> None:
        self.inner = inner

    def __call__(self, environment: dict[str, Any], start: Callable[..., Any]) -> Any:
        path = environment["PATH_INFO"]
        if path not in ("/v3/auth/tokens", "/v2.0/tokens"):
            return self.inner(environment, start)
        auth = json.loads(environment["wsgi.input"].read(int(environment["CONTENT_LENGTH"])))["auth"]
        version = 3 if path.startswith("/v3") else 2
        user, key, project = self.v3(auth) if version == 3 else self.v2(auth)
        found = self.log_in(f"{project}:{user}", key, environment["HTTP_HOST"])
        if not found:
            start("401 Unauthorized", [("Content-Type", "application/json")])
            return [b'{"error":{"code":401,"message":"wrong","title":"Unauthorized"}}']
        url, token = found["x-storage-url"], found["x-auth-token"]
        headers = [("Content-Type", "application/json")] + ([("X-Subject-Token", token)] if version == 3 else [])
        start("201 Created" if version == 3 else "200 OK", headers)
        with_project = project or ""
        return [json.dumps(self.answer(version, url, token, bool(with_project))).encode()]

    def v3(self, auth: dict[str, Any]) -> tuple[str, str, str]:
        identity = auth["identity"]
        if identity["methods"] == ["application_credential"]:
            given = identity["application_credential"]
            return given.get("id") or given["user"]["name"], given["secret"], "test"
        user = identity["password"]["user"]
        scope = auth.get("scope", {})
        if "OS-TRUST:trust" in scope:
            return (
                user.get("name") or user["id"],
                user["password"],
                scope["OS-TRUST:trust"]["id"].removeprefix("trust-"),
            )
        project = scope.get("project", {})
        return user.get("name") or user["id"], user["password"], project.get("name") or project.get("id") or ""

    def v2(self, auth: dict[str, Any]) -> tuple[str, str, str]:
        given = auth["passwordCredentials"]
        return given["username"], given["password"], auth.get("tenantName") or auth.get("tenantId") or ""

    def log_in(self, user: str, key: str, host: str) -> dict[str, str]:
        found: dict[str, str] = {}

        def start(status: str, headers: list[tuple[str, str]], _info: Any = None) -> None:
            if status.startswith("200"):
                found.update({name.lower(): value for name, value in headers})

        environment = {
            "REQUEST_METHOD": "GET", "PATH_INFO": "/auth/v1.0", "SCRIPT_NAME": "", "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": host.rpartition(":")[2], "HTTP_HOST": host,
            "SERVER_PROTOCOL": "HTTP/1.0", "REMOTE_ADDR": "127.0.0.1", "HTTP_X_AUTH_USER": user, "HTTP_X_AUTH_KEY": key,
            "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.version": (1, 0),
            "wsgi.multithread": False, "wsgi.multiprocess": False, "wsgi.run_once": False,
        }  # fmt: skip
        list(self.inner(environment, start))
        return found

    def answer(self, version: int, url: str, token: str, scoped: bool) -> dict[str, Any]:
        if version == 3:
            ends = [{"interface": each, "region": "R", "region_id": "R", "url": url} for each in ("public", "internal")]
            catalog = [{"type": "identity", "endpoints": []}, {"type": "object-store", "endpoints": ends}]
            return {"token": {"methods": ["password"], "expires_at": FOREVER, "catalog": catalog if scoped else []}}
        ends = [{"region": "R", "publicURL": url, "internalURL": url, "adminURL": url}]
        catalog = [{"type": "object-store", "name": "swift", "endpoints": ends}]
        return {"access": {"token": {"id": token, "expires": FOREVER}, "serviceCatalog": catalog}}


def main(base: str) -> None:
    """Serve from the directory `base` for ever."""
    os.makedirs(f"{base}/srv/d1", exist_ok=True)
    write(f"{base}/swift.conf", SWIFT_CONF)
    swift_utils.SWIFT_CONF_FILE = f"{base}/swift.conf"
    user = pwd.getpwuid(os.getuid()).pw_name
    common = f"[DEFAULT]\nswift_dir = {base}\nuser = {user}\nlog_address = {base}/nolog\n"
    sockets = {name: eventlet.listen(("127.0.0.1", 0), backlog=256) for name in ("account", "container", "object")}
    for name, socket in sockets.items():
        make_ring(f"{base}/{name}.ring.gz", socket.getsockname()[1])
        write(
            f"{base}/{name}.conf",
            f"{common}devices = {base}/srv\nmount_check = false\ndisable_fallocate = true\n"
            f"[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n",
        )
    memcache = Memcache()
    cache = eventlet.listen(("127.0.0.1", 0))
    eventlet.spawn_n(eventlet.serve, cache, memcache.serve)
    write(f"{base}/proxy.conf", common + proxy_configuration(cache.getsockname()[1]))
    for name, socket in sockets.items():
        serve(socket, loadapp(f"{base}/{name}.conf"))
    proxy = eventlet.listen(("127.0.0.1", 0), backlog=256)
    serve(proxy, Controls(Keystone(loadapp(f"{base}/proxy.conf")), memcache))
    write(f"{base}/port.new", str(proxy.getsockname()[1]))
    os.link(f"{base}/port.new", f"{base}/port")
    while True:
        eventlet.sleep(3600)


SWIFT_CONF = """[swift-hash]
swift_hash_path_suffix = x
swift_hash_path_prefix = y
[storage-policy:0]
name = p
default = yes
"""


def proxy_configuration(cache_port: int) -> str:
    filters = "".join(
        f"[filter:{name}]\nuse = egg:swift#{name.replace('-', '_')}\n"
        for name in PIPELINE.split()
        if name not in ("cache", "tempauth", "slo", "proxy-server")
    )
    return (
        f"[pipeline:main]\npipeline = {PIPELINE}\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\nallow_account_management = true\naccount_autocreate = true\n"
        "[filter:tempauth]\nuse = egg:swift#tempauth\nuser_test_tester = testing .admin\nuser_test_other = other\n"
        "storage_url_scheme = http\n"
        f"[filter:slo]\nuse = egg:swift#slo\n[filter:cache]\nuse = egg:swift#memcache\n"
        f"memcache_servers = 127.0.0.1:{cache_port}\n{filters}"
    )


def make_ring(path: str, port: int) -> None:
    builder = RingBuilder(2, 1, 0)
    device = {"id": 0, "region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1", "port": port, "device": "d1"}
    builder.add_dev({**device, "replication_ip": "127.0.0.1", "replication_port": port, "meta": ""})
    builder.rebalance()
    builder.get_ring().save(path)


def serve(socket: Any, application: Application) -> None:
    silent = logging.getLogger("silent")
    silent.addHandler(logging.NullHandler())
    silent.propagate = False
    eventlet.spawn_n(
        wsgi.server, socket, application, silent, protocol=SwiftHttpProtocol, capitalize_response_headers=False,
        keepalive=True, log_output=False,
    )  # fmt: skip


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
