"""Where an engine's commands stand, and the words around them (spec/config.md 11)."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest


def test_one_engine_stands_at_the_top_level(machine) -> None:
    done = machine.run("hello", "--word", "moin")
    assert (done.returncode, done.stdout) == (0, "moin nowhere:1 turbo=False v=False\n"), done.stderr
    assert machine.run("group", "inner").stdout == "inner fakedb\n"
    assert machine.run("fakedb", "hello").stdout.startswith("hi nowhere")


def test_several_engines_stand_under_their_names(two_engines) -> None:
    assert two_engines.run("fakedb", "hello").stdout.startswith("hi nowhere")
    assert two_engines.run("otherdb", "group", "inner").stdout == "inner otherdb\n"
    done = two_engines.run("hello")
    assert done.returncode == 1
    assert """unknown command "hello" for "wal-g", did you mean 'wal-g fakedb hello' or""" in done.stderr


def test_an_own_script_is_always_at_the_top_level(two_engines) -> None:
    done = two_engines.run("hello", engine="otherdb")
    assert (done.returncode, done.stdout) == (0, "hi nowhere:1 turbo=False v=False\n"), done.stderr
    missing = two_engines.run("hello", engine="thirddb")
    assert missing.returncode == 1
    assert "thirddb" in missing.stderr


def test_only_the_engine_in_use_is_imported(two_engines) -> None:
    (two_engines.site / "otherdb" / "cli.py").write_text("raise RuntimeError('must not be imported')")
    assert two_engines.run("fakedb", "hello").returncode == 0
    help_text = two_engines.run("--help")
    assert "Archive and restore OtherDB." in help_text.stdout


def test_without_engine_core_still_answers(bare) -> None:
    assert "plugins" in bare.run("--help").stdout
    assert bare.run().returncode == 0


def test_a_broken_engine_names_its_distribution_and_leaves_the_rest(machine) -> None:
    (machine.site / "fakedb" / "cli.py").write_text("import surely_not_installed")
    done = machine.run("hello")
    assert done.returncode == 1
    assert "fakedb" in done.stderr
    assert machine.run("plugins").returncode == 0


@pytest.mark.parametrize("flag", ["--version", "-v"])
def test_version_line(machine, two_engines, flag) -> None:
    fields = two_engines.run(flag).stdout.rstrip("\n").split("\t")
    assert fields[0].startswith("wal-g version ")
    assert fields[-1] == "FakeDB, OtherDB"
    assert len(fields) == 4
    own = two_engines.run(flag, engine="fakedb").stdout.rstrip("\n").split("\t")
    assert own[0].startswith("wal-g version ")
    assert own[-1] == "FakeDB"
    assert two_engines.run("hello", "-v", engine="fakedb").stdout.rstrip().endswith("v=True")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nonsense"], 'unknown command "nonsense" for "wal-g"'),
        (["hello", "--wordy", "x"], "unknown flag: --wordy"),
        (["log-push"], "Missing argument"),
        (["hello", "--fakedb-host"], "flag needs an argument: --fakedb-host"),
    ],
)
def test_usage_errors(machine, words, text) -> None:
    done = machine.run(*words)
    assert done.returncode == 1
    assert text in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr.startswith("Error: " + done.stdout.rstrip("\n"))


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["group", "nonsense"], 'unknown command "nonsense" for "wal-g group"'),
        (["group", "nonsense", "--wide"], 'unknown command "nonsense" for "wal-g group"'),
        (["group", "nonsense", "--help"], 'unknown command "nonsense" for "wal-g group"'),
        (["group", "nonsense", "x", "--", "--narrow"], 'unknown command "nonsense" for "wal-g group"'),
        (["group", "--wide"], "Usage: wal-g group"),
        (["group", "--"], "Usage: wal-g group"),
        (["group"], "Usage: wal-g group"),
        (["st", "nonsense", "-t", "x"], 'unknown command "nonsense" for "wal-g st"'),
        (["st", "check", "nonsense"], 'unknown command "nonsense" for "wal-g st check"'),
        (["help", "st", "nonsense"], 'unknown command "nonsense" for "wal-g st"'),
    ],
)
def test_a_group_answers_an_unknown_word_with_its_help_as_the_original_does(machine, words, first) -> None:
    done = machine.run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(first)
    assert "Usage: wal-g" in done.stdout


def test_so_it_does_under_the_name_of_its_engine(two_engines) -> None:
    assert two_engines.run("otherdb", "group", "nonsense").returncode == 0
    assert two_engines.run("group", "nonsense", engine="otherdb").returncode == 0
    assert two_engines.run("otherdb", "nonsense").returncode == 1


@pytest.mark.parametrize(
    "words",
    [
        ["group", "nonsense", "--narrow"],
        ["group", "nonsense", "-Z"],
        ["group", "nonsense", "--narrow=1"],
        ["config", "nonsense"],
        ["crypto", "nonsense"],
        ["st", "transfer", "nonsense"],
        ["--version", "x"],
        ["--turbo=maybe", "hello"],
    ],
)
def test_what_is_an_error_all_the_same(machine, words) -> None:
    done = machine.run(*words)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {done.stdout}")


def test_help_of_what_is_no_command_goes_to_stderr(machine) -> None:
    done = machine.run("help", "nonsense", "x")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("unknown help topic: nonsense x\n\nUsage: wal-g")
    assert machine.run("help", "fakedb", "hello").stdout.startswith("Usage: wal-g hello")


def test_flags_ignores_words(machine) -> None:
    done = machine.run("flags", "x", "y")
    assert (done.returncode, done.stdout) == (0, "")
    assert "--config" in done.stderr


def test_help_everywhere_needs_no_configuration(machine) -> None:
    del machine.environment["WALG_FILE_PREFIX"]
    for words in (
        ["--help"],
        ["-h"],
        ["hello", "--help"],
        ["help", "hello"],
        ["help", "group", "inner"],
        ["config", "-h"],
    ):
        done = machine.run(*words)
        assert done.returncode == 0, done.stderr
        assert "Usage:" in done.stdout
        assert done.stderr == ""


def test_every_core_command_shows_an_example(machine) -> None:
    for words in (["completion"], ["doctor"], ["flags"], ["plugins"], ["config", "show"], ["config", "check"]):
        assert "Example" in machine.run(*words, "--help").stdout, words


def test_no_storage_is_said_before_a_command_runs(machine) -> None:
    del machine.environment["WALG_FILE_PREFIX"]
    for words in (["hello"], ["log-push", "x"]):
        done = machine.run(*words)
        assert done.returncode == 1
        assert "Failed to find any configured storage" in done.stderr
        assert done.stdout == ""


def test_flags_go_to_stderr(machine) -> None:
    done = machine.run("flags")
    assert done.stdout == ""
    assert "--fakedb-host" in done.stderr
    assert "--walg-upload-concurrency" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(machine, shell) -> None:
    done = machine.run("completion", shell)
    assert done.returncode == 0, done.stderr
    assert "_WAL_G_COMPLETE" in done.stdout


def test_completion_answers(machine) -> None:
    done = machine.run(_WAL_G_COMPLETE="complete_bash", COMP_WORDS="wal-g hel", COMP_CWORD="1")
    assert "hello" in done.stdout.split()


def test_plugins_tells_what_is_blocked_and_broken(machine) -> None:
    machine.install("walg-broken", {"broken.py": "import surely_not_installed"}, {"walg.plugins": {"broken": "broken"}})
    rows = {row["name"]: row for row in json.loads(machine.run("plugins", "--json").stdout)}
    assert rows["fakedb"]["problem"] is None
    assert rows["fakedb"]["distribution"] == "walg-fakedb"
    assert "surely_not_installed" in rows["broken"]["problem"]
    blocked = machine.run("plugins", "--json", WALG_DISABLED_PLUGINS="walg-fakedb, broken")
    rows = {row["name"]: row for row in json.loads(blocked.stdout)}
    assert rows["fakedb"]["problem"] == rows["broken"]["problem"] == "blocked by WALG_DISABLED_PLUGINS"


def test_doctor(machine) -> None:
    done = machine.run("doctor", "--json")
    assert done.returncode == 0, done.stdout
    assert {row["status"] for row in json.loads(done.stdout)} == {"ok"}
    bad = machine.run("doctor", WALG_FILE_PREFIX=str(machine.root / "nowhere"))
    assert bad.returncode == 1
    assert "FAILED" in bad.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_a_command_in_order(machine, number) -> None:
    environment = {**machine.environment, "FAKEDB_PASSWORD": "x"}
    process = subprocess.Popen(
        machine.command("leak", "wait"), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert f"interrupted by {number.name}" in errors
    assert "Traceback" not in errors


def test_a_reader_that_went_away_is_no_traceback(machine) -> None:
    command = " ".join([*machine.command("flags"), "2>&1", "|", "head", "-1"])
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=machine.environment, check=False, timeout=60
    )
    assert "Traceback" not in done.stdout + done.stderr


def test_an_engine_declares_the_status_of_a_commands_failures(two_engines) -> None:
    """A caller that takes 1 for an answer gets another status, whatever fails: the frame, the line, the command."""
    machine = two_engines
    plugin = machine.site / "fakedb" / "plugin.py"
    declared = (
        'failure_status={"log-push": "FAKEDB_STATUS", "leak": "FAKEDB_STATUS"}, settings=(Setting("FAKEDB_STATUS",'
    )
    plugin.write_text(plugin.read_text().replace("settings=(", declared + ' "status", kind="int", default="200"),'))
    broken = machine.root / "broken.json"
    broken.write_text("{")
    for prefix, engine in ((["fakedb"], None), ([], "fakedb")):
        for words, status in (
            (["log-push", "x"], 0),
            (["log-push", "seven"], 7),
            (["log-push"], 200),
            (["log-push", "--help"], 0),
            (["log-push", "x", "--unknown"], 200),
            (["log-push", "x", "--config", str(broken)], 200),
            (["log-push", "x", "--walg-file-prefix", ""], 200),
            (["leak", "error", "--fakedb-status", "9"], 9),
            (["leak", "error", "--fakedb-status", "many"], 200),
            (["hello", "--unknown"], 1),
        ):
            assert machine.run(*prefix, *words, engine=engine).returncode == status, words
