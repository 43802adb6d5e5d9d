"""Metrics in Prometheus' text format: for `/metrics`, and as a file for the node exporter's textfile collector."""

import os
import time

from walg_core.io.atomic import write_file
from walg_core.observe import log, metrics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from walg_core.settings.config import Config

_TYPES = {metrics.COUNTER: "counter", metrics.GAUGE: "gauge", metrics.TIMING: "gauge"}


def render(labels: "Mapping[str, str]") -> str:
    """What was counted so far, every sample with these labels."""
    parts: list[str] = []
    for metric in metrics.ALL:
        name = metric.name + ("_milliseconds" if metric.kind == metrics.TIMING else "")
        parts += _family(name, _TYPES[metric.kind], metric.help, [(labels, metric.value)])
    seen = [({**labels, "code": str(code)}, value) for code, value in metrics.responses().items()]
    if seen:
        parts += _family("walg_s3_responses", "gauge", "S3 responses by HTTP status", seen)
    return "\n".join(parts) + "\n"


def _family(name: str, kind: str, meaning: str, samples: "Sequence[tuple[Mapping[str, str], float]]") -> list[str]:
    out = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inner = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
        out.append(f"{name}{{{inner}}} {value:.17g}" if inner else f"{name} {value:.17g}")
    return out


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def write_textfile(config: "Config", *, engine: str, command: str, status: int, seconds: float) -> None:
    """Write `WALG_METRICS_TEXTFILE`, atomically; for a directory a file `walg_ENGINE_COMMAND.prom` in it.

    A file that cannot be written is only a warning.
    """
    path = config.get("WALG_METRICS_TEXTFILE")
    labels = {"engine": engine, "command": command}
    if os.path.isdir(path):
        name = "_".join(part for part in ("walg", engine, command) if part).replace("-", "_").replace("/", "_")
        path = os.path.join(path, name + ".prom")
    run = (
        ("walg_command_status", "exit status of the last run", float(status)),
        ("walg_command_duration_seconds", "how long the last run took", seconds),
        ("walg_command_finished_timestamp_seconds", "when the last run ended", time.time()),
    )
    parts = [line for name, meaning, value in run for line in _family(name, "gauge", meaning, [(labels, value)])]
    try:
        write_file(path, (render(labels) + "\n".join(parts) + "\n").encode(), mode=0o644)
    except OSError as error:
        log.warning(f"metrics could not be written to WALG_METRICS_TEXTFILE {path}: {error.strerror}")
