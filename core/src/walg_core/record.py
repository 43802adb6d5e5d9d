"""Values with named fields, for what cold commands import: named tuples would load `collections`, 1 ms in each."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self


class Record:
    """Base of small value classes whose `__slots__` are named as the parameters of `__init__`. Never changed."""

    __slots__: "tuple[str, ...]" = ()

    def replace(self, **changes: "Any") -> "Self":
        """A copy with other values for some fields; raises TypeError for a field that there is not."""
        return type(self)(**{name: getattr(self, name) for name in self.__slots__} | changes)

    def _values(self) -> "tuple[Any, ...]":
        return tuple([getattr(self, name) for name in self.__slots__])

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"
