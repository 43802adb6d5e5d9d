"""The pytest plugin: fixtures that plugin authors get by installing `walg-core[testing]`.

Every import is inside a fixture: the plugin is loaded by any pytest run of an environment that has walg-core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.memory import MemoryStorage
    from walg_core.testing.network import FaultProxy

pytest.register_assert_rewrite("walg_core.testing.conformance")


@pytest.fixture
def walg_memory_storage() -> MemoryStorage:
    """An empty storage in memory."""
    from walg_core.storage.memory import MemoryStorage

    return MemoryStorage()


@pytest.fixture
def walg_fault_proxy() -> Iterator[Callable[[str, int], FaultProxy]]:
    """`(host, port) -> FaultProxy` before that server; closed after the test."""
    from walg_core.testing.network import FaultProxy

    made: list[FaultProxy] = []

    def make(host: str, port: int) -> FaultProxy:
        made.append(FaultProxy(host, port))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def walg_context() -> Iterator[Callable[[Mapping[str, Any]], Context]]:
    """`(settings) -> Context` as a command configured by just these settings would get it; closed after the test."""
    from walg_core.testing.contexts import make_context

    made: list[Context] = []

    def make(settings: Mapping[str, Any]) -> Context:
        made.append(make_context(settings))
        return made[-1]

    yield make
    for context in made:
        context.close()
