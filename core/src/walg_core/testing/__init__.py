"""What plugin authors import: conformance suites, a faulty storage, a crash harness, a network that misbehaves."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.testing.conformance import StorageConformance as StorageConformance
    from walg_core.testing.faulty import EventualStorage as EventualStorage
    from walg_core.testing.faulty import FaultyStorage as FaultyStorage
    from walg_core.testing.faulty import WormStorage as WormStorage
    from walg_core.testing.network import FaultProxy as FaultProxy

_HOMES = {
    "StorageConformance": "walg_core.testing.conformance",
    "FaultyStorage": "walg_core.testing.faulty",
    "EventualStorage": "walg_core.testing.faulty",
    "WormStorage": "walg_core.testing.faulty",
    "FaultProxy": "walg_core.testing.network",
}

__all__ = ["EventualStorage", "FaultProxy", "FaultyStorage", "StorageConformance", "WormStorage"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(__import__(_HOMES[name], fromlist=[name]), name)
