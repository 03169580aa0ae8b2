"""Operators read the log: newest first, in pages, filtered, and through time."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord
from projections.queries import log_browser
from projections.queries.log_browser import LogBrowser
from rayfold import Registry

ORDER = "order-0b9c5f0e-3c5e-4a55-9c61-6c2b1f1f7f00"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load("domain")


def record(event_type: str, data: dict[str, Any] | bytes, **metadata: str) -> NewRecord:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return NewRecord(event_type, body, metadata, str(uuid4()))


async def filled(log: MemoryLog, stream: str, *records: NewRecord) -> None:
    revision = None
    for each in records:
        await log.append([StreamAppend(stream, revision, [each])])
        revision = 0 if revision is None else revision + 1


def stocked(number: int, **metadata: str) -> NewRecord:
    return record("StockReceived", {"sku": "tea", "quantity": number}, **metadata)


async def test_pages_go_from_the_newest_to_the_oldest_and_miss_nothing(registry: Registry) -> None:
    log = MemoryLog()
    await filled(log, "stock-tea", *(stocked(each) for each in range(7)))
    browser = LogBrowser(registry, log)
    for stream in ("", "stock-tea"):
        seen, before = [], None
        while True:
            page = await browser.page(stream=stream, before=before, limit=3)
            seen += [each["revision"] for each in page["events"]]
            before = page["next"]
            if before is None:
                break
        assert seen == [6, 5, 4, 3, 2, 1, 0]


async def test_pages_of_aggregates_go_from_the_oldest_to_the_newest(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    await filled(log, "process-fulfilment-1", record("ProcessSawEvent", {}))
    await filled(log, "stock-tea", *(stocked(each) for each in range(7)))
    browser = LogBrowser(registry, log)
    for stream in ("", "stock-tea"):
        for most, sizes in ((10_000, [3, 3, 1, 0]), (0, [1] * 7 + [0])):
            monkeypatch.setattr(log_browser, "MOST_BYTES", most)
            place, pages = None, []
            while not pages or pages[-1]:
                page = await browser.after(place, stream=stream, limit=3)
                place = page["next"]
                pages.append([each["revision"] for each in page["events"]])
            assert [len(each) for each in pages] == sizes
            assert [each for page in pages for each in page] == list(range(7))
    assert await browser.after(None, stream="stock-nobody") == {"events": [], "next": None}
    monkeypatch.undo()
    # Who has seen them all does not go over what is nobody's again, nor misses what comes.
    await filled(log, "process-fulfilment-2", record("ProcessSawEvent", {}))
    end = await log.end_position(None)
    assert await browser.after(None, limit=9) | {"events": []} == {"events": [], "next": end}
    await filled(log, "stock-pot", stocked(1))
    assert [each["stream"] for each in (await browser.after(end))["events"]] == ["stock-pot"]
    assert await LogBrowser(registry, MemoryLog()).after(None) == {"events": [], "next": None}
    await log.delete_stream("stock-tea", tombstone=True)
    assert await browser.after(2, stream="stock-tea") == {"events": [], "next": 2}


async def test_a_page_ends_where_its_events_are_long(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that led to an event may be in its metadata, and longer than it."""
    monkeypatch.setattr(log_browser, "MOST_BYTES", 1_500)
    log = MemoryLog()
    await filled(log, "stock-tea", *(stocked(each, command="x" * 1_000) for each in range(3)))
    browser = LogBrowser(registry, log)
    for page in (await browser.after(None, limit=3), await browser.page(limit=3)):
        assert len(page["events"]) == 2
        assert page["next"] == page["events"][-1]["position"]
    page = await browser.page(before=page["next"], limit=3)
    assert [each["revision"] for each in page["events"]] == [0]


async def test_only_what_is_asked_for_is_shown(registry: Registry) -> None:
    log = MemoryLog()
    about = {"command_id": "c", "$correlationId": "k", "principal": "ada"}
    await filled(log, "stock-tea", stocked(1), stocked(2, **about), stocked(3))
    await filled(log, "stock-cup", record("StockReserved", {}, **{"$correlationId": "k"}))
    await filled(log, "snapshot-stock-tea", stocked(9))
    await filled(log, "rayfold-operators", record("OperatorAsked", b"no json"))
    browser = LogBrowser(registry, log)

    async def found(**asked: Any) -> list[tuple[str, int]]:
        page = await browser.page(**asked)
        assert page["next"] is None
        return [(each["stream"], each["revision"]) for each in page["events"]]

    assert await found(about="k") == [("stock-cup", 0), ("stock-tea", 1)]
    assert await found(about="ada") == await found(about="c") == [("stock-tea", 1)]
    assert await found(event_type="StockReserved") == [("stock-cup", 0)]
    assert await found(event_type="StockReceived", stream="stock-tea", about="k") == [
        ("stock-tea", 1)
    ]
    assert await found(stream="stock-nothing") == []
    everything = await browser.page()
    assert everything["events"][0]["stream"] == "rayfold-operators"
    assert everything["events"][0]["data"] == "no json"
    assert "snapshot-stock-tea" not in {each["stream"] for each in everything["events"]}


async def test_a_search_ends_and_says_where_it_continues(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_browser, "MOST_LOOKED", 4)
    monkeypatch.setattr(log_browser, "_AT_A_TIME", 2)
    log = MemoryLog()
    rare = record("StockReserved", {"sku": "tea", "quantity": 1})
    await filled(log, "stock-tea", rare, *(stocked(each) for each in range(6)))
    browser = LogBrowser(registry, log)
    first = await browser.page(event_type="StockReserved")
    assert (first["events"], first["looked"]) == ([], 4)
    second = await browser.page(event_type="StockReserved", before=first["next"])
    assert [each["revision"] for each in second["events"]] == [0]
    assert second["next"] is None


def line(sku: str) -> NewRecord:
    order_id = ORDER.removeprefix("order-")
    data = {"order_id": order_id, "sku": sku, "quantity": 1, "unit_price_cents": 5}
    return record("LineAdded", data)


async def an_order(*more: NewRecord) -> MemoryLog:
    log = MemoryLog()
    at = {"order_id": ORDER.removeprefix("order-"), "at": "2026-01-01T00:00:00Z"}
    created = record("OrderCreated", {**at, "customer_id": "ada", "currency": "EUR"})
    await filled(log, ORDER, created, line("tea"), line("cup"), *more)
    return log


async def test_an_aggregate_is_what_it_was_after_each_event(registry: Registry) -> None:
    browser = LogBrowser(registry, await an_order())
    for revision, lines in ((0, 0), (1, 1), (2, 2), (None, 2), (99, 2)):
        at = await browser.through_time(ORDER, revision)
        assert at is not None
        assert (at["first"], at["last"], len(at["state"]["lines"])) == (0, 2, lines)
        assert at["event"]["revision"] == min(revision if revision is not None else 2, 2)
        assert len(at["before"]["lines"]) == max(lines - 1, 0)
        assert at["error"] is None


async def test_an_unreadable_event_is_shown_with_the_state_before_it(
    registry: Registry,
) -> None:
    browser = LogBrowser(registry, await an_order(record("NobodyKnows", {}), line("pot")))
    at = await browser.through_time(ORDER, 4)
    assert at is not None
    assert (at["event"]["revision"], len(at["state"]["lines"])) == (3, 2)
    assert "revision 3 cannot be folded" in at["error"]
    assert "NobodyKnows" in at["error"]


async def test_a_cut_stream_has_no_state(registry: Registry) -> None:
    log = await an_order()
    log._first[ORDER] = 1  # as `$maxCount` does
    browser = LogBrowser(registry, log)
    for revision in (1, 2):
        at = await browser.through_time(ORDER, revision)
        assert at is not None
        assert at["event"]["revision"] == revision
        assert at["state"]["lines"] == []
        assert at["error"] == "the log has nothing of it before revision 1 any more"


async def test_a_stream_that_is_not_an_aggregate_has_no_past(registry: Registry) -> None:
    log = await an_order()
    browser = LogBrowser(registry, log)
    for stream in ("", "order-nobody", "process-fulfilment-1", "unknown-1"):
        assert await browser.through_time(stream) is None
    await log.delete_stream(ORDER, tombstone=True)
    assert await browser.through_time(ORDER) is None
    assert (await browser.page(stream=ORDER))["events"] == []
    assert await browser.event(ORDER, 0) is None


async def test_one_event_is_found_by_its_position(registry: Registry) -> None:
    browser = LogBrowser(registry, await an_order())
    for revision in range(3):
        event = await browser.event(ORDER, revision)
        assert event is not None
        assert event["revision"] == revision
    assert await browser.event(ORDER, 3) is None
