"""Entry points of the commands that PostgreSQL starts for every WAL file. Import nothing that they may not need."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.context import Context


def wal_push(context: "Context", arguments: list[str], options: "dict[str, str | bool]") -> int:
    """`wal-push PATH`: 0 when the file is durably archived."""
    import time

    from walg_core.observe import metrics

    from walg_pg.journal.push import push

    started = time.monotonic()
    push(context, arguments[0], str(options.get("target-storage", "")))
    metrics.s3_upload_time.set((time.monotonic() - started) * 1000)
    return 0


def wal_fetch(context: "Context", arguments: list[str], options: "dict[str, str | bool]") -> int:
    """`wal-fetch NAME DESTINATION`: 0, 74 when no storage has it, else `WALG_WAL_FETCH_FAILURE_EXIT_CODE`."""
    from walg_pg.journal.fetch import fetch_command

    return fetch_command(context, arguments[0], arguments[1], str(options.get("target-storage", "")))


def wal_push_ahead(context: "Context", arguments: list[str], options: "dict[str, str | bool]") -> int:
    """`wal-push-ahead PATH`: upload what is ready behind PATH for later `wal-push` calls; 0 or 1."""
    from walg_pg.journal import detached
    from walg_pg.journal.push_ahead import push_ahead

    return detached.run("wal-push-ahead", push_ahead, context, arguments[0], str(options.get("target-storage", "")))


def wal_prefetch(context: "Context", arguments: list[str], options: "dict[str, str | bool]") -> int:
    """`wal-prefetch NAME DESTINATION`: fetch the segments after NAME for later `wal-fetch` calls; 0 or 1."""
    from walg_pg.journal import detached
    from walg_pg.journal.prefetch import prefetch

    target, follow = str(options.get("target-storage", "")), bool(options.get("follow"))
    return detached.run("wal-prefetch", prefetch, context, arguments[0], arguments[1], target, follow=follow)
