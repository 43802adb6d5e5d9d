"""Whether a catchup backup goes on from where a replica stands."""

from __future__ import annotations

import pytest
from walg_core.errors import EngineError
from walg_pg.catchup.messages import Control
from walg_pg.catchup.state import check_continues
from walg_pg.journal.history import Switch

START = Control(system=7, timeline=2, position=0x9000028)
HISTORY = [Switch(1, 0x5000000)]


@pytest.mark.parametrize(
    ("replica", "since", "reason"),
    [
        (Control(8, 2, 0x3000028), None, "only a replica of that very cluster"),
        (Control(7, 2, 0x9000028), None, "has all that already"),
        (Control(7, 2, 0x6000028), 0x7000028, "catchup-push --from-lsn 0/6000028"),
        (Control(7, 1, 0x5000028), 0x3000028, "did not lead there"),
        (Control(7, 3, 0x4000028), 0x3000028, "did not lead there"),
    ],
)
def test_what_does_not_continue(replica: Control, since: int | None, reason: str) -> None:
    with pytest.raises(EngineError) as caught:
        check_continues(replica, START, since, HISTORY)
    assert reason in f"{caught.value} {caught.value.hint}"


def test_what_continues() -> None:
    check_continues(Control(7, 2, 0x6000028), START, 0x6000028, HISTORY)
    check_continues(Control(7, 1, 0x5000000), START, 0x3000028, HISTORY)
    check_continues(Control(7, 2, 0x6000028), START, None, [])
