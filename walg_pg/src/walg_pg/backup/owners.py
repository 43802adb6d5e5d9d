"""Names of users and groups, looked up once each."""

from __future__ import annotations

import grp
import pwd


class Owners:
    """Cached names; a number without one gives an empty name."""

    def __init__(self) -> None:
        self._users: dict[int, bytes] = {}
        self._groups: dict[int, bytes] = {}

    def user(self, number: int) -> bytes:
        """The user's name."""
        if number not in self._users:
            try:
                self._users[number] = pwd.getpwuid(number).pw_name.encode()
            except KeyError:
                self._users[number] = b""
        return self._users[number]

    def group(self, number: int) -> bytes:
        """The group's name."""
        if number not in self._groups:
            try:
                self._groups[number] = grp.getgrgid(number).gr_name.encode()
            except KeyError:
                self._groups[number] = b""
        return self._groups[number]
