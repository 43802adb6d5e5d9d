"""Telling the service manager (systemd's `sd_notify` protocol, spec/postgres-wal.md 11.3)."""

from __future__ import annotations

import os
import socket
import threading

from walg_core.observe import log

INTERVAL = 30.0
"""Seconds between two watchdog messages, unless WATCHDOG_USEC asks for more of them."""


class Notifier:
    """Sends states to `NOTIFY_SOCKET`; without one it does nothing. A failure is logged, never raised."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._stop = threading.Event()

    def send(self, state: str) -> None:
        """One datagram, such as `READY=1`."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.connect(address)
                sender.sendall(state.encode())
        except OSError as error:
            log.error(f"the service manager at {self._address} cannot be told {state}: {error}")

    def start_watchdog(self) -> None:
        """Send `WATCHDOG=1` at regular intervals from now on."""
        if self._address:
            threading.Thread(target=self._beat, name="watchdog", daemon=True).start()

    def _beat(self) -> None:
        asked = os.environ.get("WATCHDOG_USEC", "")
        interval = min(INTERVAL, int(asked) / 2e6) if asked.isdigit() and int(asked) > 0 else INTERVAL
        while not self._stop.wait(interval):
            self.send("WATCHDOG=1")

    def stop(self) -> None:
        """No more watchdog messages."""
        self._stop.set()
