"""What a run counts, and how it is told: StatsD and Prometheus' textfile at the end, `/metrics` meanwhile.

Counting is safe from every thread and costs a lock. The names and types are the original's (spec/config.md 14).
"""

from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.settings.config import Config

COUNTER, GAUGE, TIMING = "c", "g", "ms"


class Metric:
    """One number. `add` for counters and running gauges, `set` for a measured value (whole numbers are sent)."""

    __slots__ = ("_lock", "help", "kind", "name", "value")

    def __init__(self, name: str, kind: str, help: str) -> None:  # noqa: A002 - the field's own term
        self.name = name
        self.kind = kind
        self.help = help
        self.value: float = 0
        self._lock = allocate_lock()

    def add(self, amount: float = 1) -> None:
        with self._lock:
            self.value += amount

    def set(self, value: float) -> None:
        self.value = value


uploaded_files = Metric("walg_uploader_uploaded_files_total", COUNTER, "uploads tried")
uploaded_files_failed = Metric("walg_uploader_uploaded_files_failed_total", COUNTER, "uploads that failed")
s3_bytes_written = Metric("walg_s3_bytes_written", GAUGE, "bytes of successful PUT and POST requests")
s3_bytes_read = Metric("walg_s3_bytes_read", GAUGE, "bytes of GET responses")
s3_upload_time = Metric("walg_s3_upload_time", TIMING, "milliseconds that a WAL upload took")

ALL = (s3_bytes_read, s3_bytes_written, s3_upload_time, uploaded_files_failed, uploaded_files)
"""In the order in which they are sent: by name."""

_responses: dict[int, Metric] = {}
_responses_lock = allocate_lock()


def s3_response(code: int) -> None:
    """Count one S3 response by its HTTP status."""
    with _responses_lock:
        metric = _responses.get(code)
        if metric is None:
            metric = _responses[code] = Metric("walg_s3_response_", GAUGE, "S3 responses by HTTP status")
    metric.add()


def responses() -> dict[int, float]:
    """S3 responses so far: HTTP status → number."""
    with _responses_lock:
        return {code: metric.value for code, metric in sorted(_responses.items())}


def reset() -> None:
    """Forget what was counted (a new run in the same process)."""
    for metric in ALL:
        metric.value = 0
    with _responses_lock:
        _responses.clear()


def finish(config: "Config", *, engine: str, command: str, status: int, seconds: float) -> None:
    """Tell the metrics to whoever the settings name, after a command of any outcome; a failure only warns."""
    if config.is_set("WALG_STATSD_ADDRESS"):
        from walg_core.observe.statsd import send

        send(config)
    if config.is_set("WALG_METRICS_TEXTFILE"):
        from walg_core.observe.prometheus import write_textfile

        write_textfile(config, engine=engine, command=command, status=status, seconds=seconds)
