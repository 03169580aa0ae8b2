"""A projector's tasks end when they are told to."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from eventstore.memory import MemoryLog
from projections.stores.projector import Projector
from rayfold import Registry


@pytest.mark.parametrize("turns", range(5))
async def test_who_writes_what_was_passed_ends_just_as_somebody_waits_for_it(turns: int) -> None:
    """Else its projector would never begin again, and look well."""
    store: Any = SimpleNamespace(name="any", writing=None)
    projector = Projector(Registry(()), MemoryLog(), store, [])
    nobody: Any = None
    async with projector._writing:  # it gets no further than that
        writing = asyncio.create_task(projector._write_passed(nobody))
        projector._pass(1)
        for _ in range(3):
            await asyncio.sleep(0)
        projector._awaited.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        writing.cancel()
        ended, _ = await asyncio.wait([writing], timeout=1.0)
    assert ended
