"""A log has tenants, or it does not: it cannot change from one kind to the other."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from eventstore.memory import MemoryLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
from eventstore.tenancy import MixedTenancy, check_tenancy, is_of_tenants, mark_as_tenants

PREFIXES = ["account-", "schedule-"]


async def _append(log: MemoryLog, stream: str) -> None:
    await log.append([StreamAppend(stream, ANY, [NewRecord("Any", b"{}", {}, str(uuid4()))])])


async def test_an_empty_log_becomes_a_log_of_tenants_and_stays_so() -> None:
    log = MemoryLog()
    await _append(log, "rayfold-store")
    for _ in range(2):
        await check_tenancy(log, PREFIXES, tenants=True)
        assert not await is_of_tenants(log), "a check must not mark the log"
    for _ in range(2):
        await mark_as_tenants(log)
    await _append(log, "account-acme:a")
    await check_tenancy(log, PREFIXES, tenants=True)
    with pytest.raises(MixedTenancy, match="set tenants = true"):
        await check_tenancy(log, PREFIXES, tenants=False)


@pytest.mark.parametrize("stream", ["account-a", "account-acme:a", "schedule-1"])
async def test_a_log_with_data_of_no_tenant_cannot_become_a_log_of_tenants(stream: str) -> None:
    log = MemoryLog()
    await check_tenancy(log, PREFIXES, tenants=False)
    await _append(log, stream)
    before = await log.end_position(None)
    with pytest.raises(MixedTenancy, match=f"no tenant.*{stream}"):
        await check_tenancy(log, PREFIXES, tenants=True)
    await check_tenancy(log, PREFIXES, tenants=False)
    assert await log.end_position(None) == before, "nothing must be written if there are no tenants"


async def test_two_stacks_may_mark_a_log_at_once() -> None:
    log = MemoryLog()
    await asyncio.gather(mark_as_tenants(log), mark_as_tenants(log))
    assert await is_of_tenants(log)
    assert len([raw async for raw in log.read_all(["rayfold-"])]) == 1
