"""What a store answers: rows, pages, tokens."""

from __future__ import annotations

import asyncio
import json
import time
from decimal import Decimal
from itertools import pairwise

import pytest

from projections.errors import BadCursor, Behind
from projections.row_query import RowQuery
from rayfold import Event
from rayfold.runtime.turns import TURN
from tests.contract.stores.questions import NEWEST, Under, ids, one, page
from tests.contract.stores.shelf import Painted, Put, Shelf, Taken, write
from tests.contract.stores.subjects import pace, running

HOSTILE = [
    "plain",
    "",
    " ",
    "a b",
    "é中🜁",
    "quote\"'`",
    "\\",
    "%_*?[x]",
    "{tag}:@",
    "line\nbreak\ttab",
    "\x01\x02",
    "$1",
    "null",
    "A" * 1_000,
    "0" * 1_000,
]
"""Values that some store may take for something else; none has a NUL, which no client may send."""

LARGE = [2**70, -(2**70), 2**63, 2**53 + 1, 0]


async def test_an_answer_has_the_row_its_revision_and_its_position(
    subject: Under,
) -> None:
    log, store = subject
    async with running(store):
        end = await write(log, Put(id="a", name="tea"), Painted(id="a", colour="red"))
        answer = await store.ask(one("a", end))
        assert answer.position >= end
        assert answer.revision == 1
        assert json.loads(answer.body or b"") == {
            "id": "a",
            "name": "tea",
            "colour": "red",
            "size": 1,
            "painted": 1,
            "revision": 1,
        }


async def test_an_answer_without_a_row_has_a_position(subject: Under) -> None:
    log, store = subject
    async with running(store):
        end = await write(log, Put(id="a", name="tea"), Taken(id="a"))
        for key in ("a", "never"):
            answer = await store.ask(one(key, end))
            assert (answer.body, answer.revision) == (None, None)
            assert answer.position >= end


async def test_a_token_waits_for_its_position_and_gives_up_in_time(subject: Under) -> None:
    log, store = subject
    async with running(store):
        end = await write(log, Put(id="a", name="tea"))
        await store.reached(end)
        asking = asyncio.create_task(store.ask(one("a", end + 1)))
        paging = asyncio.create_task(store.ask(page(end + 1, size=9)))
        with pytest.raises(Behind):
            await store.ask(one("a", end + 100), timeout=0.05)
        await write(log, Put(id="a", name="coffee", size=9))
        assert json.loads((await asking).body or b"")["name"] == "coffee"
        assert b"coffee" in ((await paging).body or b"")


async def test_filters_find_exact_values_of_any_kind(subject: Under) -> None:
    log, store = subject
    things: list[Event] = [
        Put(id=f"{at} {name}", name=name, colour=name, size=size)
        for at, name in enumerate(HOSTILE)
        for size in (at, LARGE[at % len(LARGE)])
    ]
    async with running(store):
        end = await write(log, *things)
        for at, name in enumerate(HOSTILE):
            key = f"{at} {name}"
            assert await ids(store, page(end, name=name)) == [key]
            both = page(end, name=name, size=LARGE[at % len(LARGE)])
            assert await ids(store, both) == [key]
            assert await ids(store, page(end, name=name, colour="nothing")) == []
            row = json.loads((await store.ask(one(key, end))).body or b"")
            assert (row["name"], row["size"]) == (name, LARGE[at % len(LARGE)])
        assert await ids(store, page(end, name="pla")) == []
        assert await ids(store, page(end, name="plain\x00")) == []


@pytest.mark.parametrize("size", ["1E+20000000", "1E+131072", "-1E-16384"])
async def test_a_filter_by_a_number_that_no_row_can_have_finds_nothing(
    subject: Under, size: str
) -> None:
    log, store = subject
    async with running(store):
        end = await write(log, Put(id="a", name="tea", size=10**70), Put(id="b", name="tea"))
        assert await ids(store, page(end, size=Decimal(size))) == []
        assert await ids(store, page(end, size=10**70)) == ["a"]


async def test_a_row_with_a_null_field_is_found_by_no_value_of_that_field(subject: Under) -> None:
    log, store = subject
    async with running(store):
        end = await write(log, Put(id="a", name="tea"), Put(id="b", name="tea", colour="None"))
        assert await ids(store, page(end, colour="None")) == ["b"]
        assert await ids(store, page(end, name="tea")) == ["a", "b"]


async def test_a_row_is_found_by_its_present_values_and_not_by_earlier_ones(subject: Under) -> None:
    log, store = subject
    async with running(store):
        end = await write(
            log,
            Put(id="a", name="tea", colour="red"),
            Put(id="b", name="tea", colour="red"),
            Painted(id="a", colour="blue"),
            Painted(id="b", colour=None),
            Taken(id="a"),
            Put(id="a", name="tea", colour="green"),
        )
        assert await ids(store, page(end, colour="red")) == []
        assert await ids(store, page(end, colour="blue")) == []
        assert await ids(store, page(end, colour="green")) == ["a"]
        assert await ids(store, page(end)) == ["b", "a"], (
            "the recreated row must be after the other one"
        )


@pytest.mark.parametrize("limit", [1, 3, 200])
async def test_pages_have_every_row_once_in_the_order_in_which_they_began(
    subject: Under, limit: int
) -> None:
    log, store = subject
    keys = [f"{(at * 7) % 40:02d}{'é' * (at % 2)}" for at in range(40)]
    async with running(store):
        await write(log, *(Put(id=key, name=f"n{at % 3}") for at, key in enumerate(keys)))
        end = await write(log, Painted(id=keys[0], colour="red"))
        assert await ids(store, page(end, limit)) == keys
        assert await ids(store, page(end, limit, name="n1")) == keys[1::3]
        assert await ids(store, page(end, limit, name="n0", colour="red")) == keys[:1]
        assert await ids(store, page(end, limit, NEWEST)) == keys[::-1]
        assert await ids(store, page(end, limit, NEWEST, name="n1")) == keys[1::3][::-1]
        assert await ids(store, page(end, limit, NEWEST, name="n0", colour="red")) == keys[:1]
        assert await ids(store, page(end, limit, NEWEST, name="nobody")) == []


async def test_a_cursor_goes_on_behind_a_row_that_is_gone(subject: Under) -> None:
    log, store = subject
    async with running(store):
        end = await write(log, *(Put(id=f"{at}", name="n") for at in range(6)))
        first = json.loads((await store.ask(page(end, 2))).body or b"")
        end = await write(log, Taken(id="1"), Taken(id="3"), Put(id="9", name="n"))
        rest = page(end, 2, first["next_cursor"])
        assert await ids(store, rest) == ["2", "4", "5", "9"]


async def test_with_newest_first_a_row_that_begins_meanwhile_is_not_on_later_pages(
    subject: Under,
) -> None:
    log, store = subject
    async with running(store):
        end = await write(log, *(Put(id=f"{at}", name="n") for at in range(6)))
        for filters in ({}, {"name": "n"}):
            first = json.loads((await store.ask(page(end, 2, NEWEST, **filters))).body or b"")
            assert [row["id"] for row in first["items"]] == ["5", "4"]
            end = await write(log, Taken(id="4"), Taken(id="2"), Put(id="9", name="n"))
            rest = page(end, 2, first["next_cursor"], **filters)
            assert await ids(store, rest) == ["3", "1", "0"]
            end = await write(log, Taken(id="9"), *(Put(id=each, name="n") for each in "24"))
            end = await write(log, *(Taken(id=f"{at}") for at in range(6)))
            end = await write(log, *(Put(id=f"{at}", name="n") for at in range(6)))


async def test_an_invalid_cursor_is_refused(subject: Under) -> None:
    log, store = subject
    async with running(store):
        end = await write(log, Put(id="a", name="tea"))
        for cursor in ("x", "é", "MSBh!", "LS0xIGE", "LXg"):
            with pytest.raises(BadCursor):
                await store.ask(page(end, 5, cursor))


async def test_rows_begun_by_the_same_event_are_listed_in_the_order_of_their_keys(
    subject: Under,
) -> None:
    log, store = subject
    async with running(store):
        end = await write(log, *(Painted(id="a", colour=each) for each in ("z", "a", "z", "é")))
        asked = RowQuery("colours", None, end, {}, 50, None)
        for query, expected in (
            (asked, [("z", 2), ("a", 1), ("é", 1)]),
            (asked._replace(cursor=NEWEST), [("é", 1), ("a", 1), ("z", 2)]),
        ):
            rows = json.loads((await store.ask(query)).body or b"")["items"]
            assert [(row["colour"], row["times"]) for row in rows] == expected


async def test_the_positions_of_answers_never_go_back(subject: Under) -> None:
    log, store = subject
    async with running(store):
        await write(log, Put(id="a", name="tea"))
        stop = asyncio.Event()

        async def paint() -> None:
            while not stop.is_set():
                await write(log, Painted(id="a", colour="red"))
                await asyncio.sleep(pace(store))

        painting = asyncio.create_task(paint())
        last, asked, began = 0, 0, time.monotonic()
        while asked < 20 or time.monotonic() < began + 0.3:  # as many as there are time for
            answer = await store.ask(one("a", last))
            asked += 1
            assert answer.position >= last
            last = answer.position
            await asyncio.sleep(0)
        stop.set()
        await painting


async def test_other_tasks_run_while_a_fold_computes_for_long(
    subject: Under, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the part would seem to hang: it would be replaced, and begin again."""
    log, store = subject
    turns = 0
    seen: list[int] = []

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def painting() -> None:
        seen.append(turns)
        time.sleep(1.5 * TURN)

    meanwhile = asyncio.create_task(others())
    async with running(store):
        await store.reached(await write(log, Put(id="a", name="tea")))
        monkeypatch.setattr(Shelf, "painting", staticmethod(painting))
        end = await write(log, *(Painted(id="a", colour="red") for _ in range(20)))
        await store.reached(end)
        await store.rebuild("shelf")
    meanwhile.cancel()
    assert len(seen) >= 2 * 20
    assert all(before < after for before, after in pairwise(seen))
