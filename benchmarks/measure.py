"""Timing of programs in pairs: the same work by each contestant in turn, medians, ratios, peak memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: wall-clock seconds, processor seconds, peak resident memory in bytes (of the largest process)."""

    seconds: float
    processor: float
    peak: int


@dataclass(slots=True)
class Contestant:
    """`argv` is run `rounds` times; `prepare` before each run, untimed. The first contestant is the reference."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None
    samples: list[Sample] = field(default_factory=list)


# A process inherits the peak of the one that starts it: this small one stands between.
LAUNCHER = """
import json, os, sys, time
started = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - started
sys.stdout.flush()
processor = usage.ru_utime + usage.ru_stime
print("\\n" + json.dumps([os.waitstatus_to_exitcode(status), seconds, processor, usage.ru_maxrss]))
"""


def timed(argv: Sequence[str], environment: Mapping[str, str]) -> Sample:
    """Run a program to its end. Raises SystemExit with its output when it fails."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, *argv],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
    )
    output, _, line = done.stdout.rpartition(b"\n[")
    status, seconds, processor, peak = json.loads(b"[" + line)
    if status:
        raise SystemExit(f"{' '.join(argv)} ended with {status}:\n{output.decode(errors='replace')}")
    return Sample(seconds, processor, peak * (1 if sys.platform == "darwin" else 1024))


def compete(contestants: Sequence[Contestant], rounds: int) -> None:
    """Run all contestants `rounds` times, in alternating order, after one warming round that does not count."""
    for turn in range(rounds + 1):
        for each in contestants if turn % 2 else reversed(contestants):
            each.prepare()
            sample = timed(each.argv, each.environment)
            if turn:
                each.samples.append(sample)


def report(title: str, contestants: Sequence[Contestant]) -> None:
    """Medians, the median of the ratios round by round, and peaks; as a table, and as one line of JSON."""
    reference = contestants[0]
    print(f"\n{title}\n{'':24}{'median':>9}{'min':>8}{'max':>8}{'ratio':>8}{'processor':>11}{'peak':>9}")
    rows = []
    for each in contestants:
        seconds = [sample.seconds for sample in each.samples]
        pairs = zip(each.samples, reference.samples, strict=True)
        ratio = statistics.median(own.seconds / other.seconds for own, other in pairs)
        processor = statistics.median(sample.processor for sample in each.samples)
        peak = max(sample.peak for sample in each.samples)
        print(
            f"{each.name:24}{statistics.median(seconds):8.2f}s{min(seconds):7.2f}s{max(seconds):7.2f}s{ratio:8.2f}"
            f"{processor:10.2f}s{peak / 2**20:6.0f} MB"
        )
        rows.append({"name": each.name, "seconds": seconds, "ratio": ratio, "processor": processor, "peak": peak})
    print(json.dumps({"title": title, "load": os.getloadavg()[0], "results": rows}))
