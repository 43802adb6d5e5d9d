"""What the person who asks for a backup says about it, and the settings of the commands that make and take streams."""

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple

    from walg_core.context import Context

    class Marks(NamedTuple):
        """`permanent`: only deleted by name and force. `user_data`: JSON that its sentinel holds; None for none."""

        permanent: bool = False
        user_data: Any = None
else:
    Marks = namedtuple("Marks", "permanent user_data", defaults=(False, None), module=__name__)

CREATE, RESTORE = "WALG_STREAM_CREATE_COMMAND", "WALG_STREAM_RESTORE_COMMAND"


def marks_from(context: "Context", permanent: bool, user_data: str) -> Marks:
    """The flags' marks; user data may also come from WALG_SENTINEL_USER_DATA. Checked before anything starts."""
    if user_data:
        from walg_core.backups.selection import parse_user_data

        return Marks(permanent, parse_user_data(user_data))
    return Marks(permanent, context.config.get("WALG_SENTINEL_USER_DATA"))
