"""`backup-push` without the application: a small backup takes no longer than the interpreter's start (design 6)."""

from walg_core.streams.marks import marks_from

from walg_redis.backup.push import Options, push
from walg_redis.sentinel import check_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.context import Context


def backup_push(context: "Context", arguments: list[str], options: "dict[str, str | bool]") -> int:  # noqa: ARG001
    """The same as the application's command. Raises what `push` raises."""

    def text(name: str, default: str = "") -> str:
        return str(options.get(name, default))

    kind = check_type(text("type", "rdb"))
    marks = marks_from(context, bool(options.get("permanent")), text("add-user-data"))
    push(context, Options(kind, marks, bool(options.get("sharded")), text("ts-backup"), text("ts-backup-id")))
    return 0
