"""The web server of a running command (spec/config.md 14): `/metrics`, and what `HTTP_EXPOSE_*` add under `/debug/`.

It lives as long as the command. A command may add pages with `page`.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from walg_core.errors import ConfigError
from walg_core.observe import log, metrics, prometheus, sampler
from walg_core.observe.redact import redact
from walg_core.settings.config import Config

Page = Callable[[dict[str, str]], tuple[str, str]]
"""Gets the query's parameters, returns the content type and the text."""

_TEXT = "text/plain; charset=utf-8"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_JSON = "application/json"
_LONGEST_PROFILE = 300.0
_pages: dict[str, Page] = {}


def page(path: str, show: Page) -> None:
    """Serve `path` while the command runs."""
    _pages[path] = show


def require_listen(config: Config, *exposing: str) -> None:
    """Raises ConfigError when one of these settings is true and `HTTP_LISTEN` is not set."""
    for name in exposing:
        if config.get(name) and not config.is_set("HTTP_LISTEN"):
            raise ConfigError(
                f"{name} failed: HTTP_LISTEN is not set", hint="set HTTP_LISTEN to an address, as 127.0.0.1:8080"
            )


@contextmanager
def serving(config: Config) -> Iterator[tuple[str, int] | None]:
    """Serve while the block runs; gives the address bound, or None when `HTTP_LISTEN` is not set or cannot be bound."""
    require_listen(config, "HTTP_EXPOSE_PPROF", "HTTP_EXPOSE_EXPVAR")
    address = config.get("HTTP_LISTEN")
    server = _bind(address) if address else None
    if server is None:
        yield None
        return
    _expose(config)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="walg-web", daemon=True)
    thread.start()
    try:
        host, port = server.server_address[:2]
        yield str(host), int(port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        _pages.clear()


def _bind(address: str) -> ThreadingHTTPServer | None:
    host, sign, port = address.rpartition(":")
    try:
        if not sign:
            raise ValueError("expected host:port")
        server = ThreadingHTTPServer((host.strip("[]"), int(port)), _Handler)
    except (OSError, ValueError, OverflowError) as error:
        log.warning(f"HTTP_LISTEN {address}: {error}; the command runs without its web server")
        return None
    server.daemon_threads = True
    return server


def _expose(config: Config) -> None:
    page("/metrics", lambda _query: (_PROMETHEUS, prometheus.render({})))
    if config.get("HTTP_EXPOSE_EXPVAR"):
        page("/debug/vars", lambda _query: (_JSON, _variables()))
    if config.get("HTTP_EXPOSE_PPROF"):
        page("/debug/pprof/", lambda _query: (_TEXT, "profile?seconds=N\ngoroutine\ncmdline\n"))
        page("/debug/pprof/profile", _profile)
        page("/debug/pprof/goroutine", lambda _query: (_TEXT, sampler.thread_stacks()))
        page("/debug/pprof/cmdline", lambda _query: (_TEXT, "\x00".join(sys.argv)))


def _profile(query: dict[str, str]) -> tuple[str, str]:
    seconds = min(max(float(query.get("seconds", "30")), 0.0), _LONGEST_PROFILE)
    return _TEXT, sampler.profile_for(seconds)


def _variables() -> str:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    counted = {metric.name: metric.value for metric in metrics.ALL}
    memory = {"MaxRSS": usage.ru_maxrss * 1024}
    document = {"cmdline": sys.argv, "memstats": memory, "threads": threading.active_count(), "metrics": counted}
    return json.dumps(document)


class _Handler(BaseHTTPRequestHandler):
    server_version = "wal-g"
    timeout = 30

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        show = _pages.get(parts.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        try:
            kind, text = show(query) if show else (_TEXT, "not found\n")
            status = 200 if show else 404
        except ValueError as error:
            kind, text, status = _TEXT, f"{error}\n", 400
        body = redact(text).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        log.debug("web server: " + format % args)
