"""StatsD, Prometheus, the web server, profiles (spec/config.md 14)."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from walg_core.errors import ConfigError
from walg_core.observe import metrics, profiling, prometheus, sampler, statsd, web
from walg_core.settings.config import Config
from walg_core.settings.core import SETTINGS


@pytest.fixture(autouse=True)
def fresh():
    metrics.reset()
    yield
    metrics.reset()


def config(**values: str) -> Config:
    return Config(SETTINGS, environment=values)


@pytest.fixture
def server():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(5)
        yield listening


def test_statsd_sends_everything_zeros_included(server) -> None:
    metrics.uploaded_files.add(2)
    metrics.s3_upload_time.set(12.9)
    metrics.s3_response(200)
    metrics.s3_response(200)
    address = f"127.0.0.1:{server.getsockname()[1]}"
    statsd.send(config(WALG_STATSD_ADDRESS=address, WALG_STATSD_EXTRA_TAGS='{"env": "test", "n": 1}'))
    assert server.recv(65535).decode().split("\n") == [
        "walg_s3_bytes_read,env=test,n=1:0|g",
        "walg_s3_bytes_written,env=test,n=1:0|g",
        "walg_s3_upload_time,env=test,n=1:12|ms",
        "walg_uploader_uploaded_files_failed_total,env=test,n=1:0|c",
        "walg_uploader_uploaded_files_total,env=test,n=1:2|c",
        "walg_s3_response_,code=200,env=test,n=1:2|g",
    ]


def test_names_of_tags_are_lowered_when_they_come_from_a_file(server) -> None:
    address = f"127.0.0.1:{server.getsockname()[1]}"
    file = {"WALG_STATSD_EXTRA_TAGS": {"Env": "Prod"}, "WALG_STATSD_ADDRESS": address}
    statsd.send(Config(SETTINGS, file=file, file_name="/f"))
    assert server.recv(65535).startswith(b"walg_s3_bytes_read,env=Prod:0|g\n")


def test_datagrams_stay_below_the_limit() -> None:
    lines = [f"metric{number}:1|c" for number in range(300)] + ["x" * 2000]
    payloads = list(statsd.datagrams(lines))
    assert "\n".join(payload.decode() for payload in payloads).split("\n") == lines
    assert all(len(payload) <= 1432 for payload in payloads[:-1])


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:port", "256.0.0.1:1", "[::1"])
def test_a_wrong_address_only_warns(address, capsys) -> None:
    statsd.send(config(WALG_STATSD_ADDRESS=address))
    assert "metrics could not be sent" in capsys.readouterr().err


def test_textfile(tmp_path) -> None:
    metrics.uploaded_files.add(3)
    metrics.finish(config(WALG_METRICS_TEXTFILE=str(tmp_path)), engine="db", command="log-push", status=1, seconds=1.5)
    text = (tmp_path / "walg_db_log_push.prom").read_text()
    assert 'walg_uploader_uploaded_files_total{engine="db",command="log-push"} 3\n' in text
    assert 'walg_command_status{engine="db",command="log-push"} 1\n' in text
    assert 'walg_command_duration_seconds{engine="db",command="log-push"} 1.5\n' in text
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    single = tmp_path / "one.prom"
    metrics.finish(config(WALG_METRICS_TEXTFILE=str(single)), engine="", command="st-ls", status=0, seconds=0)
    assert 'command="st-ls"' in single.read_text()


def test_textfile_that_cannot_be_written_only_warns(capsys) -> None:
    nowhere = config(WALG_METRICS_TEXTFILE="/nowhere/at/all/x.prom")
    metrics.finish(nowhere, engine="", command="x", status=0, seconds=0)
    assert "metrics could not be written" in capsys.readouterr().err


def test_labels_are_escaped() -> None:
    assert 'a="x\\"y\\\\z\\nw"' in prometheus.render({"a": 'x"y\\z\nw'})


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_web_server_serves_what_is_exposed() -> None:
    metrics.uploaded_files.add(4)
    everything = config(HTTP_LISTEN="127.0.0.1:0", HTTP_EXPOSE_PPROF="1", HTTP_EXPOSE_EXPVAR="true")
    with web.serving(everything) as address:
        assert address is not None
        port = address[1]
        web.page("/stats/own", lambda query: ("text/plain", f"own {query}"))
        assert "walg_uploader_uploaded_files_total 4\n" in get(port, "/metrics")[1]
        assert json.loads(get(port, "/debug/vars")[1])["metrics"]["walg_uploader_uploaded_files_total"] == 4
        assert "MainThread" in get(port, "/debug/pprof/goroutine")[1]
        assert "test_web_server" in get(port, "/debug/pprof/profile?seconds=0.2")[1]
        assert get(port, "/debug/pprof/profile?seconds=x")[0] == 400
        assert get(port, "/stats/own?a=1") == (200, "own {'a': '1'}")
        assert get(port, "/nothing")[0] == 404
    with pytest.raises(OSError, match="refused"):
        get(port, "/metrics")
    with web.serving(config(HTTP_LISTEN="127.0.0.1:0")) as address:
        assert address is not None
        assert get(address[1], "/debug/vars")[0] == 404
        assert get(address[1], "/stats/own")[0] == 404


@pytest.mark.parametrize("name", ["HTTP_EXPOSE_PPROF", "HTTP_EXPOSE_EXPVAR"])
def test_exposing_without_listening_is_an_error(name) -> None:
    with pytest.raises(ConfigError, match=f"{name} failed: HTTP_LISTEN is not set"), web.serving(config(**{name: "1"})):
        pytest.fail("must not run")


def test_an_address_in_use_only_warns(capsys) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with web.serving(config(HTTP_LISTEN=f"127.0.0.1:{taken.getsockname()[1]}")) as address:
            assert address is None
    assert "without its web server" in capsys.readouterr().err


def busy(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))


def test_profiles_see_every_thread(tmp_path) -> None:
    settings = config(PROFILE_SAMPLING_RATIO="1", PROFILE_PATH=str(tmp_path), PROFILE_MODE="goroutine")
    with profiling.profiled(settings):
        worker = threading.Thread(target=busy, args=(0.3,))
        worker.start()
        worker.join()
    lines = (tmp_path / "cpu.folded").read_text().splitlines()
    assert any("busy" in line for line in lines)
    assert all(line.rpartition(" ")[2].isdigit() for line in lines)
    assert os.stat(tmp_path / "cpu.folded").st_mode & 0o777 == 0o600
    with profiling.profiled(config(PROFILE_SAMPLING_RATIO="1", PROFILE_PATH=str(tmp_path), PROFILE_MODE="mem")):
        kept = [bytes(1000) for _ in range(1000)]
    assert len(kept) == 1000
    assert "test_metrics.py" in (tmp_path / "mem.txt").read_text()


def test_no_profile_without_luck(tmp_path) -> None:
    with profiling.profiled(config(PROFILE_SAMPLING_RATIO="0", PROFILE_PATH=str(tmp_path))):
        pass
    assert list(tmp_path.iterdir()) == []


def test_sampler_stops() -> None:
    before = threading.active_count()
    assert sampler.profile_for(0.05)
    assert threading.active_count() == before
