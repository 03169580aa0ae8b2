"""A sleep that can be ended early."""

from __future__ import annotations

import asyncio

from rayfold.runtime.waking import asleep


async def test_a_sleep_ends_when_woken_or_by_itself_and_the_next_one_sleeps_again() -> None:
    wake = asyncio.Event()
    wake.set()
    async with asyncio.timeout(60):
        await asleep(3600.0, wake)
        assert not wake.is_set()
        await asleep(0.001, wake)
        sleeping = asyncio.create_task(asleep(3600.0, wake))
        await asyncio.sleep(0)
        wake.set()
        await sleeping
