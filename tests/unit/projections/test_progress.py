"""Readers that wait for a position, and readers that gave up."""

from __future__ import annotations

import asyncio

from projections.supervision.progress import Progress


async def test_a_waiting_reader_is_woken_only_when_its_position_is_reached() -> None:
    progress = Progress()
    near, far = (asyncio.create_task(progress.reached(at, 60.0)) for at in (5, 9))
    await asyncio.sleep(0)
    progress.advance(5)
    assert await near
    assert not far.done()
    progress.advance(9)
    assert await far


async def test_a_reader_that_gave_up_takes_no_memory() -> None:
    """A client may ask for any position again and again, and none may ever be reached."""
    progress = Progress()
    still = asyncio.create_task(progress.reached(7, 60.0))
    for _ in range(20):
        given_up = [asyncio.create_task(progress.reached(10**18, 0.001)) for _ in range(50)]
        gone_away = [asyncio.create_task(progress.reached(10**18, 60.0)) for _ in range(50)]
        assert not any(await asyncio.gather(*given_up))
        for each in gone_away:
            each.cancel()
        await asyncio.gather(*gone_away, return_exceptions=True)
    assert len(progress._waiting) < 10
    progress.advance(7)
    assert await still
