"""One run of the program: its command line, plugins, settings and log. Shared by the cold path and the application."""

import os
import sys

from walg_core.cli.line import Line, early, take_apart
from walg_core.context import Context
from walg_core.errors import ConfigError, WalgError
from walg_core.observe import log, redact
from walg_core.plugins import KNOWN_STORAGES, Catalog, installed
from walg_core.settings.config import Config
from walg_core.settings.files import find_file, read_file
from walg_core.settings.parse import as_text, parse_bool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

# Written into the environment of this process neither by the original nor here: maps have no form there.
_NOT_EXPORTED = frozenset(("WALG_FAILOVER_STORAGES", "WALG_STATSD_EXTRA_TAGS"))


class Session:
    """Everything that is known before a command runs.

    `problem` is what keeps commands from running (a broken configuration file); help and `config check` still work.
    `engine` is the chosen engine ("" for commands of core), `shape` is "own" (an engine's own script), "single",
    "several" or "none"; `arguments` are the words for the application or the cold command.
    `command` and `frame` (core's commands that need no context) are set by whoever dispatches; `context` is there
    once `start` has run.
    """

    context_type = Context

    def __init__(
        self,
        arguments: "Sequence[str]",
        engine: str | None = None,
        environment: "Mapping[str, str] | None" = None,
    ) -> None:
        self._given = (arguments, engine)
        self.problem: WalgError | None = None
        self.context: Context | None = None
        self.command = ""
        self.frame: frozenset[str] = frozenset()
        self.environment = dict(os.environ if environment is None else environment)
        self.file_name = ""
        self.file: dict[str, Any] = {}
        try:
            self.file_name = find_file(early(arguments, "--config"), self.environment)
            self.file = read_file(self.file_name, self.environment) if self.file_name else {}
        except ConfigError as error:
            self.problem = error
        self.catalog: Catalog = installed(self._disabled(arguments))
        self.line: Line = take_apart(arguments, self._every_setting())
        self.arguments = self.line.rest
        self.shape, self.engine = self._choose(engine)
        self.turbo = "--turbo" in self.line.switches
        self.config = Config(
            self.settings(),
            flags=self.line.flags,
            environment=self.environment,
            file=self.file,
            file_name=self.file_name,
        )
        self.debug = "--debug" in self.line.switches or self._text("WALG_LOG_LEVEL") == log.DEVEL
        self._hide_secrets()

    def _disabled(self, arguments: "Sequence[str]") -> frozenset[str]:
        name = "WALG_DISABLED_PLUGINS"
        text = early(arguments, "--walg-disabled-plugins") or self.environment.get(name) or self.file.get(name) or ""
        words = text if isinstance(text, list) else str(text).split(",")
        return frozenset(str(word).strip() for word in words if str(word).strip())

    def _every_setting(self) -> "Iterator[Any]":
        yield from self.catalog.all_settings()
        for engine in self.catalog.engines.values():
            yield from engine.settings

    def _choose(self, engine: str | None) -> tuple[str, str]:
        """The command line's shape and the engine: own script, the only one installed, or the first word."""
        engines = self.catalog.engines
        if engine is not None:
            if engine not in engines:
                reason = next(
                    (p.problem for p in self.catalog.plugins if p.name == engine and p.problem), "not installed"
                )
                self.problem = ConfigError(f"the engine '{engine}' cannot be used: {reason}")
                return "none", ""
            return "own", engine
        first = next((word for word in self.arguments if not word.startswith("-")), "")
        if len(engines) == 1:
            only = next(iter(engines))
            if first == only:
                self.arguments.remove(first)
            return "single", only
        return ("several" if engines else "none"), (first if first in engines else "")

    def settings(self) -> "list[Any]":
        """The declarations of this run. A command of core sees every engine's, an engine's command its own."""
        if self.engine:
            return self.catalog.all_settings(self.engine)
        own = self.catalog.all_settings()
        names = {setting.name for setting in own}
        return [s for e in self.catalog.engines.values() for s in e.settings if s.name not in names] + own

    def _text(self, name: str) -> str:
        found = self.config.find(name)
        return str(found[0]) if found else (self.config.setting(name).default or "")

    def _hide_secrets(self) -> None:
        redact.forget()
        for setting in self.config.declared.values():
            if not setting.secret:
                continue
            for each in setting.names:
                found = self.config._look_up(each)
                if found:
                    self._hide(found[0])

    def _hide(self, value: "Any", name: str = "") -> None:
        """A secret, or in a map of settings only what the inner names declare secret."""
        if isinstance(value, str) and value.lstrip().startswith("{"):
            import json

            try:
                value = json.loads(value)
            except ValueError:
                redact.hide(value)
                return
        if isinstance(value, dict):
            for key, inner in value.items():
                self._hide(inner, str(key).upper())
        elif not name or self._is_secret(name):
            redact.hide(as_text(value) if not isinstance(value, str) else value)

    def _is_secret(self, name: str) -> bool:
        bare = name.removeprefix("WALG_").removeprefix("WALE_")
        for setting in self.config.declared.values():
            if name in setting.names or bare in setting.names:
                return bool(setting.secret)
        return any(word in name for word in ("KEY", "SECRET", "PASS", "TOKEN"))

    def start(self) -> Context:
        """Configure the log, report what is odd in the configuration, export it, and make the command's context.

        Raises what keeps commands from running. Called twice, it only returns the context.
        """
        if self.context:
            return self.context
        if self.problem:
            raise self.problem
        self._configure_log()
        self._report_unknown()
        self._report_shown_secrets()
        serializer = self.config.find("WALG_SERIALIZER_TYPE")
        if serializer and serializer[0] != "json_streamed":
            log.warning("WALG_SERIALIZER_TYPE is deprecated and has no effect")
        self._export()
        if log.level() == log.DEVEL:
            self._log_environment()
        self.context = Context(
            self.config,
            self.catalog,
            engine=self.engine,
            turbo=self.turbo,
            program=program(self.engine),
            reread=self.reread,
        )
        return self.context

    def _configure_log(self) -> None:
        level = log.DEVEL if self.debug else self._text("WALG_LOG_LEVEL")
        log.configure(level, self._text("WALG_LOG_DESTINATION"), self._text("WALG_LOG_FORMAT"))

    def reread(self) -> Context:
        """A new context from the same command line, the environment at the start, and the file as it is now.

        Raises WalgError when what it says is not usable; everything is then as before. The caller closes the old one.
        """
        arguments, engine = self._given
        exported = dict(os.environ)
        try:
            fresh = type(self)(arguments, engine, self.environment)
            os.environ.clear()
            os.environ.update(self.environment)
            context = fresh.start()
            fresh.require()
            context.compressor()
            context.crypter()
            context.primary_storage()
        except BaseException:
            os.environ.clear()
            os.environ.update(exported)
            self._hide_secrets()
            self._configure_log()
            raise
        return context

    def require(self) -> None:
        """Before an engine's command: a storage and every required setting (spec/config.md 6). Raises ConfigError."""
        engine = self.catalog.engines.get(self.engine)
        if engine and self._engine_command() in engine.without_storage:
            return
        prefixes = [kind.prefix for kind in self.catalog.storages.values()]
        absent = [f"WALG_{kind}_PREFIX" for kind in KNOWN_STORAGES]
        if not any(self._text(name) for name in prefixes) and not any(
            self.config.mentions(name) or self.config.mentions(name.replace("WALG_", "WALE_")) for name in absent
        ):
            raise ConfigError(
                "Failed to find any configured storage",
                hint="set one of WALG_FILE_PREFIX, WALG_S3_PREFIX, ... (`wal-g config check` shows what is read)",
            )
        for name in engine.required if engine else ():
            self.config.require(name)

    def failed(self, status: int) -> int:
        """The exit status of a failure: `status`, unless the engine declares another one for the command."""
        engine = self.catalog.engines.get(self.engine)
        setting = engine.failure_status.get(self._engine_command()) if engine and status else None
        if setting is None:
            return status
        try:
            return int(self.config.get(setting))
        except ConfigError:
            return int(self.config.setting(setting).default or status)

    def _engine_command(self) -> str:
        words = [word for word in self.arguments if not word.startswith("-")]
        return "".join(words[1:2] if self.shape == "several" else words[:1])

    def close(self) -> None:
        """Release the context's storages. Idempotent."""
        if self.context:
            self.context.close()

    def _report_unknown(self) -> None:
        if not self.file:
            return
        from walg_core.settings.unknown import unknown_names

        unknown = unknown_names(self.file, self._every_setting())
        if not unknown:
            return
        strict = "--strict-config" in self.line.switches or parse_bool(self._text("WALG_STRICT_CONFIG"))
        for name, suggestion in unknown.items():
            text = f"{name} is unknown" + (f", did you mean {suggestion}?" if suggestion else "")
            if strict:
                raise ConfigError(f"{text} (file {self.file_name})", hint="correct it or leave out --strict-config")
            log.warning(text)

    def _report_shown_secrets(self) -> None:
        for name in self.line.flags:
            if any(setting.secret and name in setting.names for setting in self.config.declared.values()):
                log.warning(
                    f"--{name.lower().replace('_', '-')} shows its value to everyone who can list processes; "
                    f"use the variable {name}, or {name}_FILE or {name}_COMMAND"
                )

    def _export(self) -> None:
        """User-set values become variables of this process, for libraries and child processes (spec/config.md 5)."""
        for name, value in self.file.items():
            given = name not in _NOT_EXPORTED and value not in (None, "") and not isinstance(value, dict)
            if given and not self.environment.get(name):
                os.environ[name] = value if isinstance(value, str) else as_text(value)
        for name, value in self.line.flags.items():
            if name not in _NOT_EXPORTED and (value or os.environ.get(name)):
                os.environ[name] = value

    def _log_environment(self) -> None:
        log.debug("--- COMPILED ENVIRONMENT VARS ---")
        for setting in sorted(self.config.declared.values(), key=lambda each: each.name):
            located = self.config._locate(setting.name)
            value = located[0] if located else setting.default
            if value is not None:
                text = value if isinstance(value, str) else as_text(value)
                log.debug(f"\t{setting.name}={redact.HIDDEN if setting.secret and text else text}")


def program(engine: str) -> tuple[str, ...]:
    """The words that start this same program again, whatever the shell's search path and the working directory are."""
    prefix = (sys.executable, "-P", "-m", "walg_core")
    return (*prefix, engine) if engine else prefix
