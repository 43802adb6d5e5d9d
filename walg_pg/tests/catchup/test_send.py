"""What the sender tells receivers to delete: ours, and the original's, whose lists and whose `rm` differ."""

from __future__ import annotations

from walg_pg.catchup.send import vanished

SEEN = {"base", "base/1", "base/1/100", "pg_tblspc", "pg_tblspc/600/PG_15_1", "pg_tblspc/600/PG_15_1/5"}


def test_content_goes_before_its_directory() -> None:
    known = ["", "base", "base/1", "base/1/100", "base/9", "base/9/1", "base/9/1_vm"]
    assert vanished(known, SEEN, {"600"}) == ["base/9/1_vm", "base/9/1", "base/9"]


def test_links_of_tablespaces_stay_while_the_primary_has_them() -> None:
    assert vanished(["pg_tblspc/600", "pg_tblspc/700"], SEEN, {"600"}) == ["pg_tblspc/700"]


def test_directories_with_what_the_replica_keeps_stay() -> None:
    """The original's receiver stops at a directory that it cannot remove."""
    known = ["mine", "mine/log", "spaces", "spaces/600", "spaces/600/PG_15_1", "spaces/600/PG_15_1/5", "old", "old/x"]
    assert vanished(known, SEEN, {"600"}) == ["old/x", "old"]
