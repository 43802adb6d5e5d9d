"""The log's lines, hidden values, and what libraries say (spec/config.md 12)."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from walg_core.errors import ConfigError
from walg_core.observe import bridge, log, progress, redact
from walg_core.pipeline.reader import IterReader


@pytest.fixture(autouse=True)
def clean():
    redact.forget()
    hook = threading.excepthook
    yield
    redact.forget()
    log.configure()
    threading.excepthook = hook
    logging.captureWarnings(False)
    root = logging.getLogger()
    root.handlers = [each for each in root.handlers if not isinstance(each, bridge._Forward)]
    root.setLevel(logging.WARNING)


def test_the_original_line(capsys) -> None:
    log.warning("text")
    assert re.fullmatch(r"WARNING: \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} text\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("level", "shown"),
    [("DEVEL", "ERROR WARNING INFO DEBUG"), ("NORMAL", "ERROR WARNING INFO"), ("ERROR", "ERROR")],
)
def test_levels(capsys, level, shown) -> None:
    log.configure(level)
    for say in (log.error, log.warning, log.info, log.debug):
        say("x")
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == shown.split()


def test_json_lines_and_hints(capsys) -> None:
    log.configure(form="json")
    log.error('a "quoted" ü', "do this")
    record = json.loads(capsys.readouterr().err)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record.pop("time"))
    assert record == {"level": "ERROR", "message": 'a "quoted" ü', "hint": "do this"}
    log.configure()
    log.error("a", "do this")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(" a")
    assert second.startswith("HINT: ")
    assert second.endswith(" do this")


def test_a_file_is_appended_to(tmp_path, capsys) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    log.configure(destination=str(path))
    log.info("x")
    assert path.read_text().startswith("before\nINFO: ")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("wrong", [{"level": "devel"}, {"form": "xml"}, {"destination": "/nowhere/at/all/log"}])
def test_wrong_settings(wrong) -> None:
    with pytest.raises(ConfigError):
        log.configure(**wrong)


def test_a_full_disk_under_the_log_disturbs_nobody() -> None:
    log.configure(destination="/dev/full")
    log.error("x")
    log.error("y")


def test_secrets_in_every_form_are_hidden() -> None:
    redact.hide("mongodb://user:p@ss/w:rd@host/db")
    redact.hide('quo"ted\\secret')
    redact.hide("Server=x;Password=topsecret1;")
    redact.hide("-----BEGIN KEY-----\nabcdefghijklmnopqrstuvwxyz0123456789\n-----END KEY-----")
    redact.hide("abc")
    for text in (
        "p@ss/w:rd", "p%40ss%2Fw%3Ard", 'quo\\"ted\\\\secret', "topsecret1", "abcdefghijklmnopqrstuvwxyz0123456789",
    ):  # fmt: skip
        assert redact.redact(f"<{text}>") == "<--HIDDEN-->", text
    assert redact.redact("abc user host") == "abc user host"


@given(st.text(min_size=4).filter(lambda text: len(text.strip()) >= 4), st.text(), st.text())
def test_a_hidden_value_never_comes_through(secret: str, before: str, after: str) -> None:
    redact.forget()
    redact.hide(secret)
    shown = redact.redact(f"{before} {secret} {after}")
    assert secret.strip() not in shown.replace(redact.HIDDEN, "\0")


def test_libraries_warnings_and_threads_speak_on_our_log(capsys) -> None:
    log.configure("NORMAL")
    bridge.install()
    bridge.install()
    logging.getLogger("driver").warning("slow %s", "network")
    logging.getLogger("driver").info("detail")
    worker = threading.Thread(target=lambda: 1 / 0, name="worker")
    worker.start()
    worker.join()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 3)[::3] for line in lines] == [
        ["WARNING:", "driver: slow network"],
        ["ERROR:", "the thread worker failed: ZeroDivisionError: division by zero"],
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals_only(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert progress.visible(Terminal())
    assert not progress.visible(io.StringIO())
    log.configure(form="json")
    assert not progress.visible(Terminal())
    log.configure()
    monkeypatch.setenv("TERM", "dumb")
    assert not progress.visible(Terminal())


def test_progress_line() -> None:
    tracker = progress.track(4 << 30, "backup")
    start = tracker._started
    tracker.advance(1 << 30)
    assert tracker.line(start + 10) == "backup: 1.0 GiB of 4.0 GiB (25%), 102.4 MiB/s, 30s left"
    unknown = progress.track(None, "stream")
    unknown.advance(512)
    assert unknown.line(unknown._started + 1) == "stream: 512 B, 512 B/s"
    assert [progress.clock(s) for s in (5, 64, 3725)] == ["5s", "1m04s", "1h02m"]


def test_progress_counts_from_many_threads() -> None:
    tracker = progress.track(None)
    threads = [threading.Thread(target=lambda: [tracker.advance(1) for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tracker.done == 20000


def test_progress_makes_way_for_log_lines(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_SILENCE", 0.01)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.track(100, "work") as tracker:
        tracker.advance(50)
        for _ in range(200):
            if "work" in terminal.getvalue():
                break
            threading.Event().wait(0.01)
        log.warning("in between")
    text = terminal.getvalue()
    assert "work: 50 B of 100 B (50%)" in text
    assert "\r\x1b[KWARNING: " in text
    assert text.endswith(("\r\x1b[K", "in between\n"))


def test_quick_work_shows_nothing(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.track(100, "work") as tracker:
        tracker.advance(100)
    assert terminal.getvalue() == ""


class Seekable(io.BytesIO):
    pass


def test_readers_report_what_passes_and_replays_count_once() -> None:
    tracker = progress.track(None)
    reader = progress.tracked(Seekable(b"x" * 100), tracker)
    assert reader.read(60) == b"x" * 60
    reader.seek(0)  # type: ignore[attr-defined]
    assert reader.tell() == 0  # type: ignore[attr-defined]
    reader.read()
    assert tracker.done == 100
    plain = progress.tracked(IterReader([b"ab", b"c"]), tracker)
    assert not hasattr(plain, "seek")
    plain.read()
    plain.close()
    assert tracker.done == 102


def test_an_inner_tracker_takes_the_place_of_the_outer(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_SILENCE", 0.01)
    monkeypatch.setattr(progress, "_REFRESH", 0.01)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def seen(text: str) -> bool:
        for _ in range(500):
            if text in terminal.getvalue():
                return True
            threading.Event().wait(0.01)
        return False

    with progress.track(None, "outer") as outer:
        outer.transfers = True
        outer.advance(1)
        assert seen("outer: 1 B")
        with progress.track(10, "inner") as inner:
            inner.advance(5)
            assert progress.transfers() is outer
            assert seen("inner: 5 B of 10 B (50%)")
        outer.advance(6)
        assert seen("outer: 7 B")
    assert progress.transfers() is None
